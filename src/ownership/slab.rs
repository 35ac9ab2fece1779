//! Slots in chunks: grows without moving what is there, and never has more than one chunk too many.

/// Slots of a chunk.
const CHUNK: usize = 4096;

/// Values by number. A number that was removed is given out again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub(super) fn bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Option<T>>()).sum();
        chunks + self.chunks.capacity() * size_of::<Vec<Option<T>>>() + self.free.capacity() * size_of::<u32>()
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            *self.slot(number) = Some(value);
            return number;
        }
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(Some(value)),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(Some(value));
                self.chunks.push(chunk);
            }
        }
        let last = self.chunks.last().map_or(0, Vec::len);
        u32::try_from((self.chunks.len() - 1) * CHUNK + last - 1).expect("four thousand million sessions do not fit into memory")
    }

    pub(super) fn remove(&mut self, number: u32) {
        *self.slot(number) = None;
        self.free.push(number);
    }

    fn slot(&mut self, number: u32) -> &mut Option<T> {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    pub(super) fn at(&self, number: u32) -> &T {
        self.chunks[number as usize / CHUNK][number as usize % CHUNK]
            .as_ref()
            .expect("the table names slots in use only")
    }

    pub(super) fn at_mut(&mut self, number: u32) -> &mut T {
        self.slot(number).as_mut().expect("the table names slots in use only")
    }

    /// Slots in use from `from` on, each with the number after it.
    pub(super) fn walk(&self, from: u32) -> impl Iterator<Item = (u32, &T)> {
        let numbers = from as usize..self.chunks.len() * CHUNK;
        numbers.filter_map(|number| {
            let value = self.chunks[number / CHUNK].get(number % CHUNK)?.as_ref()?;
            Some((number as u32 + 1, value))
        })
    }
}
