//! One value of every message, all with fixed content.

// Two test binaries share it, and each uses a part.
#![allow(dead_code, clippy::unwrap_used)]

mod calls;
mod data;
mod folders;
mod nodes;
mod requests;
mod tables;
pub(crate) mod values;

use std::fmt::Debug;

use rhd_protocol::frame;
use serde::{Serialize, de::DeserializeOwned};

type Check = Box<dyn Fn(&[u8])>;

/// A named value with its type hidden.
pub(crate) struct Sample {
    kind: &'static str,
    name: &'static str,
    bytes: Option<Vec<u8>>,
    decodes: Check,
}

impl Sample {
    /// A value that this version writes and reads.
    fn new<T>(kind: &'static str, name: &'static str, value: T) -> Self
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
    {
        let bytes = frame::to_vec(&value).unwrap();
        Self { bytes: Some(bytes), ..Self::old(kind, name, value) }
    }

    /// A value whose file was written by a version that knew fewer fields.
    fn old<T>(kind: &'static str, name: &'static str, means: T) -> Self
    where
        T: DeserializeOwned + PartialEq + Debug + 'static,
    {
        let decodes = move |bytes: &[u8]| {
            let read: T = frame::decode(bytes).unwrap_or_else(|e| panic!("{kind}.{name}: {e:?}"));
            assert_eq!(read, means, "{kind}.{name}");
        };
        Self { kind, name, bytes: None, decodes: Box::new(decodes) }
    }

    /// Where its bytes are pinned.
    pub(crate) fn file(&self) -> String {
        format!("{}.{}.hex", self.kind, self.name)
    }

    /// As this version writes it, if it does.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        self.bytes.clone()
    }

    /// Fails unless the bytes mean this value.
    pub(crate) fn assert_decodes(&self, bytes: &[u8]) {
        (self.decodes)(bytes);
    }
}

/// All of them.
pub(crate) fn samples() -> Vec<Sample> {
    [
        requests::requests(),
        calls::run_requests(),
        data::data(),
        folders::folders(),
        tables::tables(),
        nodes::computing(),
        requests::answers(),
        calls::calls(),
        nodes::workers(),
        nodes::wires(),
        nodes::members(),
        nodes::sparse(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
