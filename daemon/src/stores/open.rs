//! A client for each bucket, with what the environment and the files of its tools say.

use std::{
    collections::HashMap,
    env,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
};

use super::{
    error::StoreError,
    location::{Location, Scheme},
    profile,
    store::Store,
};

/// How long one request may take: none has more than a part of an object.
const REQUEST: &str = "120 seconds";
/// How long a store may take to accept a connection.
const CONNECT: &str = "10 seconds";
/// Buckets whose clients are kept.
const KEPT: usize = 64;

/// By scheme and bucket.
type Clients = HashMap<(Scheme, String), Arc<dyn ObjectStore>>;

/// The object stores that a node uses; clones share their connections.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    clients: Arc<Mutex<Clients>>,
}

impl Stores {
    /// Opens what a URL names; nothing is asked of the store yet.
    pub fn open(&self, url: &str) -> Result<Store, StoreError> {
        let at: Location = url.parse()?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (at.scheme, at.bucket.clone());
        if let Some(client) = clients.get(&key) {
            return Ok(Store::new(client.clone(), at));
        }
        let client = client(&at).map_err(|source| StoreError::Failed {
            operation: "open",
            what: at.to_string(),
            source: Box::new(source),
        })?;
        if clients.len() >= KEPT {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(Store::new(client, at))
    }
}

/// Tries of a request that the store refused for now, or that was cut off.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 10,
        retry_timeout: Duration::from_secs(60),
    }
}

fn client(at: &Location) -> object_store::Result<Arc<dyn ObjectStore>> {
    let bucket = at.bucket.as_str();
    Ok(match at.scheme {
        Scheme::S3 => Arc::new(s3(bucket).build()?),
        Scheme::Gs => {
            let builder = GoogleCloudStorageBuilder::from_env()
                .with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), REQUEST)
                .with_config(GoogleConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT);
            Arc::new(builder.with_bucket_name(bucket).with_retry(retry()).build()?)
        }
        Scheme::Az => {
            let builder = MicrosoftAzureBuilder::from_env()
                .with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), REQUEST)
                .with_config(AzureConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT);
            Arc::new(builder.with_container_name(bucket).with_retry(retry()).build()?)
        }
    })
}

fn s3(bucket: &str) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env()
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT)
        .with_bucket_name(bucket)
        .with_retry(retry());
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let profile = profile::read();
    // What the environment says goes first, as with the tools of AWS.
    if !set("AWS_ACCESS_KEY_ID")
        && let (Some(id), Some(secret)) =
            (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key"))
    {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        if let Some(token) = profile.get("aws_session_token") {
            builder = builder.with_token(token);
        }
    }
    if !set("AWS_REGION")
        && !set("AWS_DEFAULT_REGION")
        && let Some(region) = profile.get("region")
    {
        builder = builder.with_region(region);
    }
    let mut endpoint =
        ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| env::var(name).ok());
    if endpoint.is_none()
        && let Some(named) = profile.get("endpoint_url")
    {
        builder = builder.with_endpoint(named);
        endpoint = Some(named.clone());
    }
    // Whoever names such an address means it.
    builder.with_allow_http(endpoint.is_some_and(|url| url.starts_with("http://")))
}
