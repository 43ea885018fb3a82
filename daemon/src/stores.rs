//! Object stores: S3, Google Cloud Storage and Azure Blob Storage, by URL.
//!
//! ```text
//! text --parse--> Location --open--> Store --> list, read, put, copy, remove
//! ```
//!
//! Requests go from the node that has or gets the content, with the credentials that it finds where
//! the tools of each store look for them. Whatever was refused or cut off for a while is tried again,
//! within bounds.

mod error;
mod location;
mod open;
mod profile;
mod store;
#[cfg(test)]
mod tests;
mod upload;

pub use self::{
    error::StoreError,
    location::Location,
    open::Stores,
    store::{About, Object, PART, Store},
};
