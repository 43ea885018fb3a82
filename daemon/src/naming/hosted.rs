//! A service that this node hosts, with all that is needed to run it again after a restart.

use std::sync::Arc;

use bytes::Bytes;
use rhd_protocol::{code::Load, env::EnvSpec, frame, service::Service};
use serde::{Deserialize, Serialize};

use crate::workers::LoadUnit;

/// A hosted service.
#[derive(Debug, Clone)]
pub struct Hosted {
    /// What it is.
    pub service: Service,
    /// The env it lives in.
    pub env: EnvSpec,
    /// Its code; instances have none of their own.
    pub unit: Option<Arc<LoadUnit>>,
    /// For an instance: the code of its class as it was then, which it may yet read from.
    pub made_from: Option<Arc<LoadUnit>>,
    /// For an instance: the worker process that holds it.
    pub incarnation: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    service: Service,
    env: EnvSpec,
    load: Load,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
}

impl Hosted {
    /// As a file; `None` for an instance, which lives and dies with its worker.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let unit = self.unit.as_ref()?;
        let record = Record {
            service: self.service.clone(),
            env: self.env.clone(),
            load: unit.load.clone(),
            body: unit.body.to_vec(),
        };
        frame::to_vec(&record).ok()
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, frame::FrameError> {
        let record: Record = frame::decode(bytes)?;
        let unit = LoadUnit {
            service: record.service.name.clone(),
            load: record.load,
            body: Bytes::from(record.body),
        };
        Ok(Self {
            service: record.service,
            env: record.env,
            unit: Some(Arc::new(unit)),
            made_from: None,
            incarnation: None,
        })
    }
}
