//! Short names for templates.

/// Letters and digits without vowels and look-alikes, so that no hash spells a word.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short name for `bytes`; `collisions` makes another one where that name was taken.
#[must_use]
pub fn short(bytes: &[u8], collisions: i32) -> String {
    let mut hash = bytes
        .iter()
        .chain(collisions.to_le_bytes().iter())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let mut text = String::with_capacity(10);
    for _ in 0..10 {
        let index = usize::try_from(hash % 27).unwrap_or(0);
        text.push(char::from(SAFE.get(index).copied().unwrap_or(b'b')));
        hash /= 27;
    }
    text
}
