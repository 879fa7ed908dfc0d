use std::collections::BTreeMap;

use nacre_model::map::Deployment;
use nacre_model::{ClusterMap, OstIndex, Target, TargetKind, TargetState};

use super::BadMessage;
use super::names::narrow;
use crate::v1;

impl From<TargetKind> for v1::TargetKind {
    fn from(kind: TargetKind) -> Self {
        match kind {
            TargetKind::Mdt => Self::Mdt,
            TargetKind::Ost => Self::Ost,
        }
    }
}

impl TryFrom<v1::TargetKind> for TargetKind {
    type Error = BadMessage;

    fn try_from(wire: v1::TargetKind) -> Result<Self, BadMessage> {
        match wire {
            v1::TargetKind::Mdt => Ok(Self::Mdt),
            v1::TargetKind::Ost => Ok(Self::Ost),
            v1::TargetKind::Unspecified => {
                Err(BadMessage::UnknownEnum { field: "kind", value: wire as i32 })
            }
        }
    }
}

impl From<Target> for v1::Target {
    fn from(target: Target) -> Self {
        Self {
            kind: v1::TargetKind::from(target.kind) as i32,
            index: target.index.into(),
            uuid: target.uuid,
            state: match target.state {
                TargetState::Up => v1::TargetState::Up,
                TargetState::Down => v1::TargetState::Down,
            } as i32,
            addresses: target.addresses,
            epoch: target.epoch,
            no_create: target.no_create,
        }
    }
}

impl TryFrom<v1::Target> for Target {
    type Error = BadMessage;

    fn try_from(wire: v1::Target) -> Result<Self, BadMessage> {
        Ok(Self {
            kind: wire.kind().try_into()?,
            index: narrow("index", wire.index.into())?,
            state: match wire.state() {
                v1::TargetState::Up => TargetState::Up,
                v1::TargetState::Down => TargetState::Down,
                v1::TargetState::Unspecified => {
                    return Err(BadMessage::UnknownEnum { field: "state", value: wire.state });
                }
            },
            uuid: wire.uuid,
            addresses: wire.addresses,
            epoch: wire.epoch,
            no_create: wire.no_create,
        })
    }
}

impl From<ClusterMap> for v1::ClusterMap {
    fn from(map: ClusterMap) -> Self {
        Self {
            version: map.version,
            fsname: map.fsname,
            deployment: match map.deployment {
                Deployment::Scratch => v1::Deployment::Scratch,
                Deployment::Persistent => v1::Deployment::Persistent,
            } as i32,
            targets: map.targets.into_values().map(Into::into).collect(),
            pools: map
                .pools
                .into_iter()
                .map(|(name, osts)| v1::Pool {
                    name,
                    osts: osts.into_iter().map(|ost| ost.0.into()).collect(),
                })
                .collect(),
            default_layout: map.default_layout.map(Into::into),
        }
    }
}

impl TryFrom<v1::ClusterMap> for ClusterMap {
    type Error = BadMessage;

    fn try_from(wire: v1::ClusterMap) -> Result<Self, BadMessage> {
        if !Self::valid_fsname(&wire.fsname) {
            return Err(BadMessage::Text { field: "fsname", value: wire.fsname });
        }
        let deployment = match wire.deployment() {
            v1::Deployment::Scratch => Deployment::Scratch,
            v1::Deployment::Persistent => Deployment::Persistent,
            v1::Deployment::Unspecified => {
                return Err(BadMessage::UnknownEnum {
                    field: "deployment",
                    value: wire.deployment,
                });
            }
        };
        let mut targets = BTreeMap::new();
        for target in wire.targets {
            let target = Target::try_from(target)?;
            targets.insert((target.kind, target.index), target);
        }
        let mut pools = BTreeMap::new();
        for pool in wire.pools {
            if !Self::valid_pool(&pool.name) {
                return Err(BadMessage::Text { field: "pool", value: pool.name });
            }
            let osts = pool.osts.into_iter().map(|i| Ok(OstIndex(narrow("osts", i.into())?)));
            pools.insert(pool.name, osts.collect::<Result<_, BadMessage>>()?);
        }
        Ok(Self {
            version: wire.version,
            fsname: wire.fsname,
            deployment,
            targets,
            pools,
            default_layout: wire.default_layout.map(TryInto::try_into).transpose()?,
        })
    }
}
