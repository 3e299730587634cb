//! What the log of the group consists of, and its bytes on disk.

use std::io::Cursor;
use std::sync::Arc;

use openraft::{CommittedLeaderId, EntryPayload, LogId, Membership, StoredMembership};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::super::codec::{Malformed, Reader, Writer};
use super::super::command::Command;
use super::super::mvcc::Outcome;

openraft::declare_raft_types!(
    /// The types of the group.
    pub(in crate::store) Types:
        D = Commands,
        R = Outcomes,
);

pub(super) type LogEntry = openraft::Entry<Types>;
pub(super) type Member = openraft::BasicNode;

/// The commands of one entry: whatever writers wanted while the entry before was on its way to disk.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::store) struct Commands(pub(super) Arc<[Command]>);

/// What each command of an entry led to. Needed where the entry was proposed, and never sent anywhere.
#[derive(Default, Serialize, Deserialize)]
pub(in crate::store) struct Outcomes {
    #[serde(skip)]
    pub(super) of: Vec<Outcome>,
}

impl Commands {
    fn write(&self, writer: &mut Writer) {
        writer.u32(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        for command in self.0.iter() {
            writer.command(command);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.u32()?;
        (0..count).map(|_| reader.command()).collect::<Result<_, _>>().map(Self)
    }
}

impl Serialize for Commands {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.finish().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Commands {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Self::read(&mut Reader::new(&bytes)).map_err(de::Error::custom)
    }
}

const BLANK: u8 = 0;
const COMMANDS: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(super) fn encode_entry(entry: &LogEntry) -> Vec<u8> {
    let mut writer = Writer::default();
    write_log_id(&mut writer, Some(entry.log_id));
    match &entry.payload {
        EntryPayload::Blank => writer.u8(BLANK),
        EntryPayload::Normal(commands) => {
            writer.u8(COMMANDS);
            commands.write(&mut writer);
        }
        EntryPayload::Membership(membership) => {
            writer.u8(MEMBERSHIP);
            write_membership(&mut writer, membership);
        }
    }
    writer.finish()
}

pub(super) fn decode_entry(bytes: &[u8]) -> Result<LogEntry, Malformed> {
    let mut reader = Reader::new(bytes);
    let log_id = read_log_id(&mut reader)?.ok_or(reader.malformed())?;
    let payload = match reader.u8()? {
        BLANK => EntryPayload::Blank,
        COMMANDS => EntryPayload::Normal(Commands::read(&mut reader)?),
        MEMBERSHIP => EntryPayload::Membership(read_membership(&mut reader)?),
        _ => return Err(reader.malformed()),
    };
    if reader.is_at_end() { Ok(LogEntry { log_id, payload }) } else { Err(reader.malformed()) }
}

pub(super) fn write_log_id(writer: &mut Writer, log_id: Option<LogId<u64>>) {
    writer.u8(log_id.is_some().into());
    if let Some(log_id) = log_id {
        writer.u64(log_id.leader_id.term);
        writer.u64(log_id.leader_id.node_id);
        writer.u64(log_id.index);
    }
}

pub(super) fn read_log_id(reader: &mut Reader<'_>) -> Result<Option<LogId<u64>>, Malformed> {
    if reader.u8()? == 0 {
        return Ok(None);
    }
    let leader = CommittedLeaderId::new(reader.u64()?, reader.u64()?);
    Ok(Some(LogId::new(leader, reader.u64()?)))
}

fn write_membership(writer: &mut Writer, membership: &Membership<u64, Member>) {
    // Numbers and addresses always encode.
    writer.bytes(&serde_json::to_vec(membership).unwrap_or_default());
}

fn read_membership(reader: &mut Reader<'_>) -> Result<Membership<u64, Member>, Malformed> {
    let malformed = reader.malformed();
    serde_json::from_slice(reader.bytes()?).map_err(|_| malformed)
}

pub(super) fn write_stored_membership(writer: &mut Writer, stored: &StoredMembership<u64, Member>) {
    write_log_id(writer, *stored.log_id());
    write_membership(writer, stored.membership());
}

pub(super) fn read_stored_membership(reader: &mut Reader<'_>) -> Result<StoredMembership<u64, Member>, Malformed> {
    Ok(StoredMembership::new(read_log_id(reader)?, read_membership(reader)?))
}
