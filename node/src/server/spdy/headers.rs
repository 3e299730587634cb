//! SPDY/3.1 header blocks: name and value pairs, compressed by one zlib stream per direction (section 2.6.10).

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;

/// Names and values in order.
pub type Headers = Vec<(String, String)>;

/// No block is longer when uncompressed.
const LONGEST: usize = 64 << 10;
/// No block has more pairs.
const MOST: usize = 256;

/// The words with which both sides prime their compressors: each with its length before it, then a text.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host \
    if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized\
    403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr \
    May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,\
    image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,\
    deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut all = BytesMut::new();
    for word in WORDS.split_ascii_whitespace() {
        let word = word.replace('_', " ");
        all.put_u32(u32::try_from(word.len()).unwrap_or(0));
        all.put_slice(word.as_bytes());
    }
    all.put_slice(TEXT.as_bytes());
    all.to_vec()
}

/// Compresses the header blocks of one direction.
#[derive(Debug)]
pub struct Compressor(Compress);

impl Compressor {
    /// A compressor at the beginning of a connection.
    ///
    /// # Errors
    /// If the compressor can't be primed.
    pub fn new() -> Result<Self, SpdyError> {
        let mut inner = Compress::new(Compression::fast(), true);
        inner.set_dictionary(&dictionary()).map_err(|_| SpdyError::Malformed("the compressor can't be primed"))?;
        Ok(Self(inner))
    }

    /// The block of these headers.
    ///
    /// # Errors
    /// If they can't be compressed.
    pub fn block(&mut self, headers: &Headers) -> Result<Bytes, SpdyError> {
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).unwrap_or(0));
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(u32::try_from(text.len()).unwrap_or(0));
                plain.put_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 128);
        let mut rest = &plain[..];
        loop {
            let before = self.0.total_in();
            let status = self.0.compress_vec(rest, &mut out, FlushCompress::Sync);
            status.map_err(|_| SpdyError::Malformed("headers can't be compressed"))?;
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(0);
            rest = rest.get(taken..).unwrap_or_default();
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out.into());
            }
            out.reserve(128);
        }
    }
}

/// Uncompresses the header blocks of one direction.
#[derive(Debug)]
pub struct Decompressor(Decompress);

impl Default for Decompressor {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Decompressor {
    /// The headers of `block`.
    ///
    /// # Errors
    /// If it isn't a block, or goes beyond a limit.
    pub fn headers(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        parse(&self.plain(block)?)
    }

    fn plain(&mut self, block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut out = Vec::with_capacity(4096);
        let mut rest = block;
        let mut primed = false;
        loop {
            let (read, written) = (self.0.total_in(), out.len());
            let result = self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - read).unwrap_or(0);
            rest = rest.get(taken..).unwrap_or_default();
            match result {
                Ok(Status::StreamEnd) => return Err(SpdyError::Malformed("the compressed headers ended")),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() && !primed => {
                    primed = true;
                    let set = self.0.set_dictionary(&dictionary());
                    set.map_err(|_| SpdyError::Malformed("headers with another dictionary"))?;
                    continue;
                }
                Err(_) => return Err(SpdyError::Malformed("headers are not compressed as they must be")),
            }
            if out.len() > LONGEST {
                return Err(SpdyError::Malformed("headers are too long"));
            }
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
            if taken == 0 && out.len() == written && out.len() < out.capacity() {
                return Err(SpdyError::Malformed("headers are cut off"));
            }
            out.reserve(4096);
        }
    }
}

fn parse(plain: &[u8]) -> Result<Headers, SpdyError> {
    let mut rest = plain;
    let count = take_length(&mut rest)?;
    if count > MOST {
        return Err(SpdyError::Malformed("too many headers"));
    }
    let mut headers = Headers::with_capacity(count);
    for _ in 0..count {
        headers.push((take_text(&mut rest)?.to_ascii_lowercase(), take_text(&mut rest)?));
    }
    if rest.is_empty() { Ok(headers) } else { Err(SpdyError::Malformed("something follows the headers")) }
}

fn take_length(rest: &mut &[u8]) -> Result<usize, SpdyError> {
    let (bytes, after) = rest.split_first_chunk::<4>().ok_or(SpdyError::Malformed("headers are cut off"))?;
    *rest = after;
    Ok(u32::from_be_bytes(*bytes) as usize)
}

fn take_text(rest: &mut &[u8]) -> Result<String, SpdyError> {
    let length = take_length(rest)?;
    let (text, after) = rest.split_at_checked(length).ok_or(SpdyError::Malformed("headers are cut off"))?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| SpdyError::Malformed("a header is not text"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dictionary_is_that_of_the_protocol() {
        // Its checksum is part of every first block: 78 bb e3 c6 a7 c2.
        let block = Compressor::new().unwrap().block(&vec![("streamtype".into(), "error".into())]).unwrap();
        assert_eq!(dictionary().len(), 1423);
        assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn blocks_of_one_connection_share_a_stream() {
        let (mut there, mut here) = (Compressor::new().unwrap(), Decompressor::default());
        for index in 0..20 {
            let headers = vec![("streamtype".to_owned(), "data".to_owned()), ("port".to_owned(), index.to_string())];
            let block = there.block(&headers).unwrap();
            assert_eq!(here.headers(&block).unwrap(), headers);
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = vec![("a".to_owned(), "x".repeat(1 << 20))];
        let block = Compressor::new().unwrap().block(&bomb).unwrap();
        assert!(Decompressor::default().headers(&block).is_err());
    }

    proptest! {
        #[test]
        fn headers_survive_the_wire(headers in prop::collection::vec(("[a-z-]{1,20}", ".{0,200}"), 0..30)) {
            let block = Compressor::new().unwrap().block(&headers).unwrap();
            prop_assert_eq!(Decompressor::default().headers(&block).unwrap(), headers);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Decompressor::default().headers(&bytes).map_or(true, |headers| headers.len() <= MOST));
            prop_assert!(parse(&bytes).map_or(true, |headers| headers.len() <= MOST));
        }
    }
}
