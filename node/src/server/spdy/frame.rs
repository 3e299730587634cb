//! SPDY/3.1 frames as bytes (draft-mbelshe-httpbis-spdy-00, section 2.2 and 2.6).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{SpdyError, headers::Headers};

/// The length of the part that every frame begins with.
pub const PREFIX: usize = 8;
/// No frame is longer; the peers of this protocol send at most 32 KiB at once.
pub const LONGEST: usize = 1 << 20;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;

/// A frame, its header block still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// The new stream.
        stream: u32,
        /// Whether the opener sends nothing more on it.
        fin: bool,
        /// Compressed headers.
        block: Bytes,
    },
    /// Accepts a stream.
    SynReply {
        /// The stream.
        stream: u32,
        /// Whether the accepter sends nothing on it.
        fin: bool,
        /// Compressed headers.
        block: Bytes,
    },
    /// Ends a stream at once.
    Reset {
        /// The stream.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// More headers of a stream.
    Headers {
        /// The stream.
        stream: u32,
        /// Whether the sender sends nothing more on it.
        fin: bool,
        /// Compressed headers.
        block: Bytes,
    },
    /// Asks for the same frame back.
    Ping(u32),
    /// No more streams will be accepted.
    GoAway {
        /// The last stream that was accepted.
        last: u32,
    },
    /// More may be sent.
    WindowUpdate {
        /// The stream, or zero for the connection.
        stream: u32,
        /// How many bytes more.
        delta: u32,
    },
    /// Parameters, none of which matters here.
    Settings,
    /// Data of a stream.
    Data {
        /// The stream.
        stream: u32,
        /// Whether it's the last.
        fin: bool,
        /// What was sent.
        data: Bytes,
    },
    /// A control frame that this protocol version may pass over.
    Unknown,
}

/// Takes the first whole frame from `buffer`; nothing if there is none yet.
///
/// # Errors
/// If what is there can't be a frame.
pub fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
    let Some((prefix, _)) = buffer.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let mut prefix = &prefix[..];
    let word = prefix.get_u32();
    let flags_and_length = prefix.get_u32();
    let length = (flags_and_length & 0x00ff_ffff) as usize;
    if length > LONGEST {
        return Err(SpdyError::Malformed("a frame is too long"));
    }
    if buffer.len() < PREFIX + length {
        return Ok(None);
    }
    let mut body = buffer.split_to(PREFIX + length).freeze();
    body.advance(PREFIX);
    let fin = (flags_and_length >> 24) as u8 & FLAG_FIN != 0;
    if word >> 31 == 0 {
        return Ok(Some(Frame::Data { stream: word, fin, data: body }));
    }
    if (word >> 16) as u16 & 0x7fff != VERSION {
        return Err(SpdyError::Malformed("another version than 3"));
    }
    control((word & 0xffff) as u16, fin, body).map(Some)
}

fn control(kind: u16, fin: bool, mut body: Bytes) -> Result<Frame, SpdyError> {
    let mut word = || body.try_get_u32().map_err(|_| SpdyError::Malformed("a control frame is too short"));
    let id = |word: u32| word & 0x7fff_ffff;
    Ok(match kind {
        1 => {
            let stream = id(word()?);
            let _associated = word()?;
            if body.remaining() < 2 {
                return Err(SpdyError::Malformed("a SYN_STREAM frame is too short"));
            }
            body.advance(2);
            Frame::SynStream { stream, fin, block: body }
        }
        2 => Frame::SynReply { stream: id(word()?), fin, block: body },
        3 => Frame::Reset { stream: id(word()?), status: word()? },
        4 => Frame::Settings,
        6 => Frame::Ping(word()?),
        7 => Frame::GoAway { last: id(word()?) },
        8 => Frame::Headers { stream: id(word()?), fin, block: body },
        9 => Frame::WindowUpdate { stream: id(word()?), delta: id(word()?) },
        _ => Frame::Unknown,
    })
}

/// Appends `frame` to `out`.
pub fn put(frame: &Frame, out: &mut BytesMut) {
    let mut control = |kind: u16, fin: bool, words: &[u32], rest: &[&[u8]]| {
        let length = words.len() * 4 + rest.iter().map(|part| part.len()).sum::<usize>();
        out.put_u32(0x8000_0000 | u32::from(VERSION) << 16 | u32::from(kind));
        out.put_u32(u32::from(fin) << 24 | length_field(length));
        words.iter().for_each(|word| out.put_u32(*word));
        rest.iter().for_each(|part| out.put_slice(part));
    };
    match frame {
        Frame::SynStream { stream, fin, block } => control(1, *fin, &[*stream, 0], &[&[0, 0], block]),
        Frame::SynReply { stream, fin, block } => control(2, *fin, &[*stream], &[block]),
        Frame::Reset { stream, status } => control(3, false, &[*stream, *status], &[]),
        Frame::Settings => control(4, false, &[0], &[]),
        Frame::Ping(id) => control(6, false, &[*id], &[]),
        Frame::GoAway { last } => control(7, false, &[*last, 0], &[]),
        Frame::Headers { stream, fin, block } => control(8, *fin, &[*stream], &[block]),
        Frame::WindowUpdate { stream, delta } => control(9, false, &[*stream, *delta], &[]),
        Frame::Data { stream, fin, data } => {
            out.put_u32(stream & 0x7fff_ffff);
            out.put_u32(u32::from(*fin) << 24 | length_field(data.len()));
            out.put_slice(data);
        }
        Frame::Unknown => {}
    }
}

fn length_field(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff
}

/// The header of `name` among `headers`, if there is one.
#[must_use]
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let id = 0u32..0x8000_0000;
        let bytes = || prop::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
        prop_oneof![
            (id.clone(), any::<bool>(), bytes()).prop_map(|(stream, fin, block)| Frame::SynStream {
                stream,
                fin,
                block
            }),
            (id.clone(), any::<bool>(), bytes()).prop_map(|(stream, fin, block)| Frame::SynReply {
                stream,
                fin,
                block
            }),
            (id.clone(), any::<bool>(), bytes()).prop_map(|(stream, fin, block)| Frame::Headers { stream, fin, block }),
            (id.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
            any::<u32>().prop_map(Frame::Ping),
            id.clone().prop_map(|last| Frame::GoAway { last }),
            (id.clone(), id.clone()).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
            (id, any::<bool>(), bytes()).prop_map(|(stream, fin, data)| Frame::Data { stream, fin, data }),
            Just(Frame::Settings),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_the_wire_however_they_are_cut(
            frames in prop::collection::vec(frames(), 0..20), cut in 1usize..50
        ) {
            let mut wire = BytesMut::new();
            frames.iter().for_each(|frame| put(frame, &mut wire));
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for part in wire.chunks(cut) {
                buffer.extend_from_slice(part);
                while let Some(frame) = take(&mut buffer).unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, frames);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut buffer) {}
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_before_it_is_read() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff][..]);
        assert!(take(&mut buffer).is_err());
    }
}
