//! The file of a Unix socket: made, replaced and removed only by whom it belongs to.
//!
//! A lock in a file beside it says whose turn it is. Without it of two processes that start together both may find a socket that nobody
//! listens on, and the second one removes what the first has just made. The lock's file stays: were it removed, two processes could hold the
//! locks of two files of that name.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Held as long as the socket is listened on; it is removed at the end, unless it is another's by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number.
    own: Option<(u64, u64)>,
    _lock: File,
}

impl SocketFile {
    /// Listens there. A socket left behind by a process that is gone refuses connections, and only such a one is replaced.
    pub(super) fn listen(path: &Path) -> io::Result<(UnixListener, Self)> {
        let _lock = lock(path)?;
        if is_left_behind(path) {
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        let own = identity(path);
        let path = path.to_owned();
        Ok((listener, Self { path, own, _lock }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.own.is_some() && identity(&self.path) == self.own {
            // Somebody else may have removed it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Why the lock cannot be had, where more is to be said than the system does: it comes within an [`io::Error`].
#[derive(Debug)]
pub(super) enum LockFault {
    Held(PathBuf),
    /// This user may not open it.
    Foreign(PathBuf),
}

impl fmt::Display for LockFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(file) => write!(f, "another proxy runs there: it holds the lock {}", file.display()),
            Self::Foreign(file) => write!(f, "no permission to open the lock {}", file.display()),
        }
    }
}

impl std::error::Error for LockFault {}

impl LockFault {
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::Held(_) => "stop it, or give another path",
            Self::Foreign(_) => "while no proxy runs there, remove that file or give it to the user of this process",
        }
    }
}

/// `AddrInUse` if another process has it.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = OsString::from(path);
    name.push(".lock");
    let fault = |e: io::Error| cannot_lock(Path::new(&name), &e);
    // For nobody else: who can open it can lock it.
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&name)
        .map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(ErrorKind::AddrInUse, LockFault::Held(name.into()))),
        Err(TryLockError::Error(e)) => Err(fault(e)),
    }
}

fn cannot_lock(file: &Path, e: &io::Error) -> io::Error {
    match e.kind() {
        // Without the file it is the folder's permission that lacks.
        ErrorKind::PermissionDenied if fs::symlink_metadata(file).is_ok() => io::Error::new(e.kind(), LockFault::Foreign(file.to_owned())),
        kind => io::Error::new(kind, format!("{}: {e}", file.display())),
    }
}

/// Whether it is a socket that nobody listens on.
fn is_left_behind(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket && connect(path).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

/// Waits for nobody: one that listens and is stopped has its queue full, and would take no connection for as long.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A folder, and where the socket is to be in it.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mqtt.sock");
        (folder, path)
    }

    fn fault(path: &Path) -> ErrorKind {
        SocketFile::listen(path).unwrap_err().kind()
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let (_folder, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let own = SocketFile::listen(&path).unwrap();
        assert_eq!(fault(&path), ErrorKind::AddrInUse);
        drop(own);
        assert!(!path.exists());
        // Of a program that knows nothing of the lock.
        let other = UnixListener::bind(&path).unwrap();
        assert_eq!(fault(&path), ErrorKind::AddrInUse);
        drop(other);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "no socket").unwrap();
        assert_eq!(fault(&path), ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"no socket");
    }

    #[tokio::test]
    async fn nothing_is_replaced_while_another_process_looks_at_it() {
        let (_folder, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let before = identity(&path);
        let others = lock(&path).unwrap();
        assert_eq!(fault(&path), ErrorKind::AddrInUse);
        assert_eq!(identity(&path), before);
        drop(others);
        SocketFile::listen(&path).unwrap();
    }

    #[test]
    fn a_lock_that_is_another_users_is_told_from_a_folder_that_is() {
        let (_folder, path) = place();
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        assert!(cannot_lock(&path, &denied).to_string().ends_with("mqtt.sock: permission denied"));
        fs::write(&path, "").unwrap();
        let told = cannot_lock(&path, &denied);
        assert_eq!(told.kind(), ErrorKind::PermissionDenied);
        assert_eq!(told.to_string(), format!("no permission to open the lock {}", path.display()));
        let fault = told.get_ref().unwrap().downcast_ref::<LockFault>().unwrap();
        assert!(fault.remedy().contains("remove that file"));
    }

    #[tokio::test]
    async fn the_file_of_somebody_else_is_not_removed() {
        let (_folder, path) = place();
        let own = SocketFile::listen(&path).unwrap();
        // Kept under another name, or the new one could get its number.
        fs::rename(&path, path.with_extension("former")).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(own);
        assert!(path.exists());
    }

    #[test]
    fn one_that_listens_and_takes_nothing_is_not_waited_for() {
        let (_folder, path) = place();
        let stopped = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        stopped.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        stopped.listen(0).unwrap();
        let mut waiting = vec![];
        let full = loop {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            match socket.connect(&SockAddr::unix(&path).unwrap()) {
                Ok(()) => waiting.push(socket),
                Err(e) => break e.kind(),
            }
        };
        assert_eq!(full, ErrorKind::WouldBlock);
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(is_left_behind(&path)));
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(false));
    }
}
