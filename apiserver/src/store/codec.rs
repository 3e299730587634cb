//! The bytes of commands and entries, as they stand in the log and in snapshots: little-endian, every part with
//! its length before it. A reader takes no length on trust.

use std::sync::Arc;

use bytes::Bytes;

use super::command::{Command, Expect, Op};
use super::key::{Key, Resource};
use super::object::{Body, Entry, Object, Pairs};

/// The bytes are not what [`Writer`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {at}")]
pub(super) struct Malformed {
    at: usize,
}

#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        // What is written here was checked against limits far below 4 GiB.
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
    }

    pub(super) fn str(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    fn key(&mut self, key: &Key) {
        self.str(key.resource().as_str());
        self.str(key.path());
    }

    fn pairs(&mut self, pairs: &Pairs) {
        self.u32(u32::try_from(pairs.iter().count()).unwrap_or(u32::MAX));
        for (name, value) in pairs.iter() {
            self.str(name);
            self.str(value);
        }
    }

    fn expect(&mut self, expect: Expect) {
        match expect {
            Expect::Any => self.u8(0),
            Expect::Absent => self.u8(1),
            Expect::Revision(revision) => {
                self.u8(2);
                self.u64(revision);
            }
        }
    }

    pub(super) fn command(&mut self, command: &Command) {
        match command {
            Command::Commit(ops) => {
                self.u8(0);
                self.u32(u32::try_from(ops.len()).unwrap_or(u32::MAX));
                for op in ops.iter() {
                    self.op(op);
                }
            }
            Command::Compact(revision) => {
                self.u8(1);
                self.u64(*revision);
            }
        }
    }

    fn op(&mut self, op: &Op) {
        let (kind, key, expect) = match op {
            Op::Put { key, expect, .. } => (0, key, expect),
            Op::Delete { key, expect } => (1, key, expect),
            Op::Check { key, expect } => (2, key, expect),
        };
        self.u8(kind);
        self.key(key);
        self.expect(*expect);
        if let Op::Put { object, .. } = op {
            self.str(&object.uid);
            self.pairs(&object.labels);
            self.pairs(&object.fields);
            match &object.body {
                Body::Json { head, tail } => {
                    self.u8(0);
                    self.bytes(head);
                    self.bytes(tail);
                }
                Body::Sealed(bytes) => {
                    self.u8(1);
                    self.bytes(bytes);
                }
            }
        }
    }

    pub(super) fn entry(&mut self, entry: &Entry) {
        self.key(&entry.key);
        self.u64(entry.created);
        self.u64(entry.revision);
        self.str(&entry.uid);
        self.pairs(&entry.labels);
        self.pairs(&entry.fields);
        self.u32(entry.splice().unwrap_or(u32::MAX));
        self.bytes(entry.bytes());
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn malformed(&self) -> Malformed {
        Malformed { at: self.at }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(self.malformed())?;
        self.bytes = rest;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let malformed = self.malformed();
        self.take(N)?.try_into().map_err(|_| malformed)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    pub(super) fn str(&mut self) -> Result<&'a str, Malformed> {
        let malformed = self.malformed();
        std::str::from_utf8(self.bytes()?).map_err(|_| malformed)
    }

    fn key(&mut self) -> Result<Key, Malformed> {
        let resource = Resource::from_qualified(self.str()?);
        Ok(Key::from_path(resource, self.str()?.into()))
    }

    fn pairs(&mut self) -> Result<Pairs, Malformed> {
        let count = self.u32()?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push((self.str()?, self.str()?));
        }
        Ok(pairs.into_iter().collect())
    }

    fn expect(&mut self) -> Result<Expect, Malformed> {
        match self.u8()? {
            0 => Ok(Expect::Any),
            1 => Ok(Expect::Absent),
            2 => self.u64().map(Expect::Revision),
            _ => Err(self.malformed()),
        }
    }

    pub(super) fn command(&mut self) -> Result<Command, Malformed> {
        match self.u8()? {
            0 => {
                let count = self.u32()?;
                (0..count).map(|_| self.op()).collect::<Result<Arc<[Op]>, _>>().map(Command::Commit)
            }
            1 => self.u64().map(Command::Compact),
            _ => Err(self.malformed()),
        }
    }

    fn op(&mut self) -> Result<Op, Malformed> {
        let kind = self.u8()?;
        let (key, expect) = (self.key()?, self.expect()?);
        match kind {
            0 => Ok(Op::Put { key, expect, object: self.object()? }),
            1 => Ok(Op::Delete { key, expect }),
            2 => Ok(Op::Check { key, expect }),
            _ => Err(self.malformed()),
        }
    }

    fn object(&mut self) -> Result<Object, Malformed> {
        let (uid, labels, fields) = (self.str()?.into(), self.pairs()?, self.pairs()?);
        let body = match self.u8()? {
            0 => {
                Body::Json { head: Bytes::copy_from_slice(self.bytes()?), tail: Bytes::copy_from_slice(self.bytes()?) }
            }
            1 => Body::Sealed(Bytes::copy_from_slice(self.bytes()?)),
            _ => return Err(self.malformed()),
        };
        Ok(Object { uid, labels, fields, body })
    }

    pub(super) fn entry(&mut self) -> Result<Entry, Malformed> {
        let key = self.key()?;
        let (created, revision) = (self.u64()?, self.u64()?);
        let (uid, labels, fields) = (self.str()?.into(), self.pairs()?, self.pairs()?);
        let splice = Some(self.u32()?).filter(|&at| at != u32::MAX);
        let body = Body::Sealed(Bytes::copy_from_slice(self.bytes()?));
        Ok(Entry::restore(key, Object { uid, labels, fields, body }, created, revision, splice))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs() -> impl Strategy<Value = Pairs> {
        proptest::collection::vec(("[a-z]{0,6}", "[a-z]{0,6}"), 0..4).prop_map(|pairs| pairs.into_iter().collect())
    }

    fn op() -> impl Strategy<Value = Op> {
        let expect = prop_oneof![Just(Expect::Any), Just(Expect::Absent), any::<u64>().prop_map(Expect::Revision)];
        let body = (proptest::collection::vec(any::<u8>(), 0..40), any::<bool>()).prop_map(|(bytes, sealed)| {
            let bytes = Bytes::from(bytes);
            if sealed { Body::Sealed(bytes) } else { Body::Json { head: bytes.clone(), tail: bytes } }
        });
        let object = ("[a-z]{0,6}", pairs(), pairs(), body).prop_map(|(uid, labels, fields, body)| Object {
            uid: uid.into(),
            labels,
            fields,
            body,
        });
        (0..3, "[a-z]{1,4}", "[a-z]{0,3}", "[a-z]{1,3}", expect, object).prop_map(
            |(kind, resource, namespace, name, expect, object)| {
                let key = Key::new(&Resource::new("", &resource), &namespace, &name);
                match kind {
                    0 => Op::Put { key, expect, object },
                    1 => Op::Delete { key, expect },
                    _ => Op::Check { key, expect },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_command_comes_back_as_it_was(ops in proptest::collection::vec(op(), 0..4), revision: u64) {
            for command in [Command::Commit(ops.into()), Command::Compact(revision)] {
                let mut writer = Writer::default();
                writer.command(&command);
                let bytes = writer.finish();
                let mut reader = Reader::new(&bytes);
                prop_assert_eq!(reader.command(), Ok(command));
                prop_assert!(reader.is_at_end());
            }
        }

        #[test]
        fn malformed_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            Reader::new(&bytes).command().ok();
            Reader::new(&bytes).entry().ok();
        }
    }
}
