//! Lists as frames: their items' ready bytes, joined as they are sent.

use bytes::Bytes;

use super::body::BoxError;

/// How much is joined into one frame; what is as large is a frame of its own and is not copied.
const FRAME_BYTES: usize = 64 * 1024;
/// What an item usually takes at least.
const ITEM_BYTES: usize = 512;

/// An item's bytes behind what was written of it.
pub type Part = Result<Bytes, BoxError>;

/// A list in JSON: a head, items with commas between them, an end.
pub struct Joined<T, F> {
    open: Vec<u8>,
    items: std::vec::IntoIter<T>,
    write: F,
    close: &'static [u8],
    is_first: bool,
    large: Option<Bytes>,
    is_over: bool,
}

impl<T, F: FnMut(&T, &mut Vec<u8>) -> Part> Joined<T, F> {
    /// Behind `head`, which opens the list, the items: of each what `write` writes, what it answers with, and `close`.
    pub fn new(head: Vec<u8>, items: Vec<T>, close: &'static [u8], write: F) -> Self {
        let mut open = Vec::with_capacity(FRAME_BYTES.min(head.len() + items.len() * ITEM_BYTES));
        open.extend_from_slice(&head);
        Self { open, items: items.into_iter(), write, close, is_first: true, large: None, is_over: false }
    }

    fn frame(&mut self) -> Option<Part> {
        let next = Vec::with_capacity(if self.is_over { 0 } else { FRAME_BYTES + FRAME_BYTES / 4 });
        Some(Ok(std::mem::replace(&mut self.open, next).into()))
    }
}

impl<T, F: FnMut(&T, &mut Vec<u8>) -> Part> Iterator for Joined<T, F> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        if let Some(large) = self.large.take() {
            return Some(Ok(large));
        }
        if self.is_over {
            return None;
        }
        while let Some(item) = self.items.next() {
            if !std::mem::replace(&mut self.is_first, false) {
                self.open.push(b',');
            }
            let rest = match (self.write)(&item, &mut self.open) {
                Ok(rest) => rest,
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            };
            if rest.len() >= FRAME_BYTES {
                let frame = self.frame();
                self.open.extend_from_slice(self.close);
                self.large = Some(rest);
                return frame;
            }
            self.open.extend_from_slice(&rest);
            self.open.extend_from_slice(self.close);
            if self.open.len() >= FRAME_BYTES {
                return self.frame();
            }
        }
        self.is_over = true;
        self.open.extend_from_slice(b"]}\n");
        self.frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(items: Vec<Bytes>) -> (usize, String) {
        let write = |item: &Bytes, out: &mut Vec<u8>| {
            out.push(b'<');
            Ok(item.clone())
        };
        let frames: Vec<Bytes> = Joined::new(b"[".to_vec(), items, b">", write).map(Result::unwrap).collect();
        (frames.len(), String::from_utf8(frames.concat()).unwrap())
    }

    #[test]
    fn whatever_the_sizes_of_items_the_list_is_the_same() {
        let sizes = [0, 1, 700, FRAME_BYTES - 1, FRAME_BYTES, 3 * FRAME_BYTES, 5, FRAME_BYTES];
        for count in 0..=sizes.len() {
            let items: Vec<Bytes> = sizes.iter().take(count).map(|size| vec![b'x'; *size].into()).collect();
            let parts: Vec<String> = items.iter().map(|item| format!("<{}>", String::from_utf8_lossy(item))).collect();
            assert_eq!(joined(items).1, format!("[{}]}}\n", parts.join(",")));
        }
    }

    #[test]
    fn small_items_share_frames_and_large_ones_are_not_copied() {
        let small = Bytes::from(vec![b'x'; 1024]);
        assert_eq!(joined(vec![small; 64]).0, 2);
        let large = Bytes::from(vec![b'x'; FRAME_BYTES]);
        let mut frames =
            Joined::new(Vec::new(), vec![large.clone()], b"", |item: &Bytes, _: &mut Vec<u8>| Ok(item.clone()));
        assert_eq!(frames.nth(1).unwrap().unwrap().as_ptr(), large.as_ptr());
    }

    #[test]
    fn an_item_that_fails_ends_the_list() {
        let write = |item: &u8, _: &mut Vec<u8>| if *item == 0 { Err("no".into()) } else { Ok(Bytes::new()) };
        let frames: Vec<Part> = Joined::new(Vec::new(), vec![1, 0, 1], b"", write).collect();
        assert!(matches!(&frames[..], [Err(_)]));
    }
}
