//! A server of tokens that counts, and what is made of its answers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use super::*;

/// Answers each request with the next of these; the last stays. Counts, and keeps what was asked.
struct Server {
    url: String,
    asked: Arc<AtomicUsize>,
    last: Arc<std::sync::Mutex<String>>,
}

impl Server {
    async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/oauth2/token", listener.local_addr().unwrap());
        let (asked, last) = (Arc::new(AtomicUsize::new(0)), Arc::<std::sync::Mutex<String>>::default());
        let answers: Vec<String> = answers.iter().map(|a| (*a).to_owned()).collect();
        let (count, keep) = (Arc::clone(&asked), Arc::clone(&last));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = String::new();
                while !(text.contains("\r\n\r\n") && text.contains("grant_type")) {
                    let mut piece = [0; 4096];
                    let n = stream.read(&mut piece).await.unwrap();
                    text.push_str(std::str::from_utf8(&piece[..n]).unwrap());
                }
                *keep.lock().unwrap() = text;
                let number = count.fetch_add(1, SeqCst);
                let answer = &answers[number.min(answers.len() - 1)];
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, asked, last }
    }

    fn tokens(&self) -> Tokens {
        Tokens::new(TokenSource::Endpoint(TokenEndpoint {
            url: self.url.parse().unwrap(),
            ca: None,
            client_id: "proxy:1".to_owned(),
            client_secret: Secret::Text(Zeroizing::new("s&cret".to_owned())),
            scope: Some("kafka read".to_owned()),
        }))
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn token(name: &str, seconds: u32) -> String {
    answer(
        "200 OK",
        &format!(r#"{{"access_token":"{name}","token_type":"Bearer","expires_in":{seconds}}}"#),
    )
}

#[tokio::test]
async fn many_who_want_a_token_cost_one_question() {
    let server = Server::start(&[&token("a.b.c", 3600)]).await;
    let tokens = Arc::new(server.tokens());
    let mut wanting = JoinSet::new();
    for _ in 0..20 {
        let tokens = Arc::clone(&tokens);
        wanting.spawn(async move { tokens.get().await });
    }
    while let Some(got) = wanting.join_next().await {
        assert_eq!(**got.unwrap().unwrap(), *"a.b.c");
    }
    assert_eq!(server.asked(), 1);
    let asked = server.last.lock().unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("post /oauth2/token http/1.1\r\n"), "{asked}");
    // "proxy%3A1:s%26cret"
    let login = BASE64.encode("proxy%3A1:s%26cret").to_ascii_lowercase();
    assert!(asked.contains(&format!("authorization: basic {login}\r\n")), "{asked}");
    assert!(asked.ends_with("\r\n\r\ngrant_type=client_credentials&scope=kafka+read"), "{asked}");
}

#[tokio::test]
async fn a_token_that_is_refused_or_has_no_life_is_asked_for_anew() {
    let server = Server::start(&[&token("a", 3600), &token("b", 0), &token("c", 3600)]).await;
    let tokens = server.tokens();
    let first = tokens.get().await.unwrap();
    assert_eq!(tokens.get().await.unwrap(), first);
    tokens.refused(&first).await;
    assert_eq!(**tokens.get().await.unwrap(), *"b");
    assert_eq!(**tokens.get().await.unwrap(), *"c");
    // It was another that was refused.
    tokens.refused(&first).await;
    assert_eq!(**tokens.get().await.unwrap(), *"c");
    assert_eq!(server.asked(), 3);
}

#[tokio::test]
async fn a_server_that_refuses_is_told_and_not_asked_at_once_again() {
    let body = r#"{"error":"invalid_client","error_description":"unknown\nclient"}"#;
    let server = Server::start(&[&answer("401 Unauthorized", body)]).await;
    let tokens = server.tokens();
    let why = tokens.get().await.unwrap_err();
    let url = &server.url;
    let words = "answers 401 invalid_client unknown client: check `client_id`, `client_secret` and `scope` of `kafka.security.sasl`";
    assert_eq!(why, format!("{url}: {words}"));
    for _ in 0..10 {
        assert_eq!(tokens.get().await.unwrap_err(), why);
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn answers_that_are_none_are_told() {
    let long = answer("200 OK", &"x".repeat(LONGEST_ANSWER + 1));
    for (answer, words) in [
        (answer("200 OK", "<html>"), "answers no JSON"),
        (answer("200 OK", "{}"), "gives no bearer token"),
        (answer("200 OK", r#"{"access_token":"a b"}"#), "gives no bearer token"),
        (
            answer("200 OK", r#"{"access_token":"a","token_type":"mac"}"#),
            "gives no bearer token",
        ),
        (
            answer("404 Not Found", ""),
            "answers 404: check `kafka.security.sasl.token_endpoint`",
        ),
        (answer("500 Oops", "<html>"), "answers 500"),
        (answer("302 Found", ""), "answers 302"),
        (long, "cannot be read"),
        ("nonsense\r\n\r\n".to_owned(), "no HTTP answer"),
        (String::new(), "no HTTP answer"),
    ] {
        let server = Server::start(&[&answer]).await;
        let why = server.tokens().get().await.unwrap_err();
        assert!(why.contains(words) && !why.contains("s&cret"), "{why}\nhas no: {words}");
    }
}

#[tokio::test]
async fn while_a_token_is_good_a_server_that_fails_harms_nobody() {
    let mut kept = Kept::default();
    let token = Zeroizing::new("a".to_owned());
    assert_eq!(kept.take(Ok((token.clone(), Duration::from_secs(100)))), Ok(token.clone()));
    let life = kept.token.as_ref().unwrap().1;
    let renewed = life.renewed - Instant::now();
    assert!(
        renewed > Duration::from_secs(79) && renewed <= Duration::from_secs(80),
        "{renewed:?}"
    );
    assert_eq!(kept.take(Err("away".to_owned())), Ok(token));
    let failure = kept.failure.clone().unwrap();
    assert!(failure.until > Instant::now());
    kept.token = None;
    assert_eq!(kept.take(Err("away".to_owned())), Err("away".to_owned()));
    assert_eq!(kept.failure.as_ref().unwrap().in_a_row, 1);
    // A good answer ends it.
    let next = Zeroizing::new("b".to_owned());
    assert_eq!(kept.take(Ok((next.clone(), Duration::from_secs(1)))), Ok(next));
    assert!(kept.failure.is_none());
}

#[test]
fn lifetimes_are_read_as_they_come() {
    let read = |json: &str| lifetime(&serde_json::from_str(json).unwrap());
    assert_eq!(read("3600"), Duration::from_secs(3600));
    assert_eq!(read("\"3599\""), Duration::from_secs(3599));
    for none in ["-1", "\"x\"", "null", "[]", "\"NaN\""] {
        assert_eq!(read(none), Duration::ZERO, "{none}");
    }
    assert_eq!(read("1e300"), Duration::from_secs_f64(LONGEST_LIFE));
}

#[tokio::test]
async fn a_token_in_a_file_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let tokens = Tokens::new(TokenSource::Held(Secret::File(path.clone())));
    assert!(tokens.get().await.unwrap_err().contains("cannot be read"));
    for name in ["a.b.", "c.d.e"] {
        std::fs::write(&path, format!(" {name}\n\n")).unwrap();
        assert_eq!(**tokens.get().await.unwrap(), *name);
    }
    std::fs::write(&path, "no token").unwrap();
    let why = tokens.get().await.unwrap_err();
    assert!(why.contains("no bearer token") && !why.contains("no token\n"), "{why}");
}
