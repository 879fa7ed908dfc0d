//! Commands as the log holds them.

use bytes::Bytes;
use nacre_model::Fid;
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;
use nacre_proto::v1::command_record::Op as WireOp;
use prost::Message;

use super::{narrow, osts, wire_osts};
use crate::command::{Command, Op, Origin};

/// Bytes that are not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// No version, or one that this program does not know.
    #[error("command has the unknown version {0:?}")]
    Version(Option<u8>),
    /// Not the message.
    #[error("command is not a message: {0}")]
    Message(prost::DecodeError),
    /// A message that says something impossible.
    #[error("command makes no sense")]
    Content(#[from] BadMessage),
}

const VERSION: u8 = 1;

impl Command {
    /// To an entry of the log: a version byte and a `CommandRecord`.
    pub fn encode(&self) -> Bytes {
        let record = v1::CommandRecord {
            time: Some(self.time.into()),
            origin: self.origin.map(|origin| v1::OriginRecord {
                session: origin.session,
                slot: origin.slot,
                xid: origin.xid,
            }),
            op: Some(op_to_wire(&self.op)),
        };
        let mut out = Vec::with_capacity(record.encoded_len().saturating_add(1));
        out.push(VERSION);
        record.encode_raw(&mut out);
        out.into()
    }

    /// From an entry of the log. File data in it shares the memory of `bytes`.
    pub fn decode(mut bytes: Bytes) -> Result<Self, BadCommand> {
        if bytes.first() != Some(&VERSION) {
            return Err(BadCommand::Version(bytes.first().copied()));
        }
        let body = bytes.split_off(1);
        let record = v1::CommandRecord::decode(body).map_err(BadCommand::Message)?;
        Ok(Self {
            time: required("time", record.time)?.try_into()?,
            origin: record.origin.map(|origin| Origin {
                session: origin.session,
                slot: origin.slot,
                xid: origin.xid,
            }),
            op: op_from_wire(required("op", record.op)?)?,
        })
    }
}

fn op_to_wire(op: &Op) -> WireOp {
    match op {
        Op::Change { uid, gid, op, new_fid, placement, held_open, used_by_others } => {
            let request = v1::ChangeRequest {
                uid: *uid,
                gid: *gid,
                op: Some(op.clone()),
                ..v1::ChangeRequest::default()
            };
            WireOp::Change(v1::ChangeRecord {
                request: Some(request),
                new_fid: new_fid.map(Into::into),
                placement: placement
                    .iter()
                    .map(|(component, osts)| v1::PlacementRecord {
                        component: (*component).into(),
                        osts: wire_osts(osts),
                    })
                    .collect(),
                held_open: wire_fids(held_open),
                used_by_others: wire_fids(used_by_others),
            })
        }
        Op::MarkLazy { fid } => WireOp::MarkLazy(v1::MarkLazyRecord { fid: Some((*fid).into()) }),
        Op::OpenSession { client_uuid, incarnation, hostname, leases } => {
            WireOp::OpenSession(v1::OpenSessionRecord {
                client_uuid: client_uuid.clone(),
                incarnation: *incarnation,
                hostname: hostname.clone(),
                leases: *leases,
            })
        }
        Op::CloseSession { session } => {
            WireOp::CloseSession(v1::CloseSessionRecord { session: *session })
        }
        Op::ReapOrphan { fid } => {
            WireOp::ReapOrphan(v1::ReapOrphanRecord { fid: Some((*fid).into()) })
        }
        Op::ForgetWork { records } => {
            WireOp::ForgetWork(v1::ForgetWorkRecord { records: records.clone() })
        }
        Op::GrantSequence { session } => {
            WireOp::GrantSequence(v1::GrantSequenceRecord { session: *session })
        }
        Op::AddSequences { first, count } => {
            WireOp::AddSequences(v1::AddSequencesRecord { first: *first, count: *count })
        }
        Op::SkipFids { count } => WireOp::SkipFids(v1::SkipFidsRecord { count: *count }),
        Op::Hsm { op } => WireOp::Hsm(v1::HsmRecordOp { op: Some(op.clone()) }),
    }
}

fn op_from_wire(wire: WireOp) -> Result<Op, BadMessage> {
    Ok(match wire {
        WireOp::Change(change) => {
            let request = required("request", change.request)?;
            let mut placement = Vec::with_capacity(change.placement.len());
            for row in change.placement {
                placement.push((narrow("component", row.component)?, osts(row.osts)?));
            }
            Op::Change {
                uid: request.uid,
                gid: request.gid,
                op: required("op", request.op)?,
                new_fid: change.new_fid.map(Into::into),
                placement,
                held_open: change.held_open.into_iter().map(Into::into).collect(),
                used_by_others: change.used_by_others.into_iter().map(Into::into).collect(),
            }
        }
        WireOp::MarkLazy(wire) => Op::MarkLazy { fid: required("fid", wire.fid)?.into() },
        WireOp::OpenSession(wire) => Op::OpenSession {
            client_uuid: wire.client_uuid,
            incarnation: wire.incarnation,
            hostname: wire.hostname,
            leases: wire.leases,
        },
        WireOp::CloseSession(wire) => Op::CloseSession { session: wire.session },
        WireOp::ReapOrphan(wire) => Op::ReapOrphan { fid: required("fid", wire.fid)?.into() },
        WireOp::ForgetWork(wire) => Op::ForgetWork { records: wire.records },
        WireOp::GrantSequence(wire) => Op::GrantSequence { session: wire.session },
        WireOp::AddSequences(wire) => Op::AddSequences { first: wire.first, count: wire.count },
        WireOp::SkipFids(wire) => Op::SkipFids { count: wire.count },
        WireOp::Hsm(wire) => Op::Hsm { op: required("op", wire.op)? },
    })
}

fn wire_fids(fids: &[Fid]) -> Vec<v1::Fid> {
    fids.iter().map(|fid| (*fid).into()).collect()
}
