//! Mutations of bytes that depend on a number only, so that every run, and every failure, can be repeated.

/// No mutated input is longer: what matters about parsers shows on small ones, and large ones are slow.
const LONGEST: usize = 16 << 10;
/// The most mutations that one input gets at once.
const MOST_AT_ONCE: u64 = 6;

/// Bytes at which parsers turn.
const BYTES: [u8; 16] = [0, 1, 0x7f, 0x80, 0xff, b' ', b'\n', b'"', b'\\', b'{', b'[', b'/', b':', b'-', b'0', b'9'];

/// Pieces that mean something to some parser.
const PIECES: [&[u8]; 32] = [
    b"..",
    b"../",
    b"/",
    b"%2f",
    b"%",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":",
    b"\"$patch\":\"delete\"",
    b"\"$retainKeys\":[\"a\"]",
    b"\"$setElementOrder/containers\":[{\"name\":\"b\"}]",
    b"\"$deleteFromPrimitiveList/finalizers\":[\"a/b\"]",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e999",
    b"0.000000000000000000000000001",
    b"Ei",
    b"\\u0000",
    b"\\ud800",
    b"\xf0\x9f\xa6\x80",
    b"\xc0\xaf",
    b"!= ",
    b" in (",
    b"metadata.name=",
    b"&a [*a, *a]\n",
    b"\n  - ",
];

/// Numbers that look random and are the same in every run (SplitMix64).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is 0 only if the answer is.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        of.get(self.below(of.len())).copied()
    }
}

/// `input` with some changes; `other` lends pieces.
#[must_use]
pub fn mutate(input: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=numbers.next() % MOST_AT_ONCE {
        change(&mut bytes, other, numbers);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len() + 1);
    let until = (at + 1 + numbers.below(32)).min(bytes.len());
    let range = at.min(until)..until;
    match numbers.next() % 10 {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << numbers.below(8);
            }
        }
        1 => {
            if let (Some(byte), Some(new)) = (bytes.get_mut(at), numbers.one(&BYTES)) {
                *byte = new;
            }
        }
        2 => drop(bytes.drain(range)),
        3 => {
            // The same piece, once or many times: what is repeated is what limits are for.
            let piece: Vec<u8> = bytes.get(range).unwrap_or_default().repeat(1 + numbers.below(40));
            insert(bytes, at, &piece);
        }
        4 => {
            let piece = numbers.one(&PIECES).unwrap_or_default();
            insert(bytes, at, piece);
        }
        5 => {
            let piece = numbers.one(&PIECES).unwrap_or_default();
            bytes.splice(range, piece.iter().copied());
        }
        6 => {
            let from = numbers.below(other.len() + 1);
            let piece = other.get(from..(from + numbers.below(256)).min(other.len())).unwrap_or_default();
            insert(bytes, at, piece);
        }
        7 => bytes.truncate(at),
        8 => {
            let number = numbers.next() >> numbers.below(64);
            let width = 1 << numbers.below(4);
            let piece = if numbers.next().is_multiple_of(2) { number.to_be_bytes() } else { number.to_le_bytes() };
            let end = (at + width).min(bytes.len());
            bytes.splice(at.min(end)..end, piece.into_iter().take(width));
        }
        _ => {
            let number = numbers.next() >> numbers.below(64);
            bytes.splice(range, number.to_string().into_bytes());
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if bytes.len() + piece.len() <= LONGEST {
        bytes.splice(at..at, piece.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_another_gives_others() {
        let inputs = |seed| {
            let mut numbers = Numbers::new(seed);
            (0..200).map(|_| mutate(b"{\"a\": [1, 2]}", b"xyz", &mut numbers)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(3).iter().all(|input| input.len() <= LONGEST));
    }
}
