//! Objects in the memory of an env, by key.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rhd_protocol::{
    VERSION,
    api::DeployRequest,
    call::{Codec, Reply},
    code::Entry,
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
    id::{CallId, encode_base32},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use crate::{
    Client, Cluster, Env, Invocation,
    calls::{body_of, value_of},
    requests::not_understood,
};

/// The objects of an env of Python code: its modules and functions share them, callers get copies as
/// plain data. They end with the env's worker.
///
/// ```no_run
/// # async fn example() -> Result<(), rhd_sdk::ErrorInfo> {
/// let gpu = rhd_sdk::Cluster::named("gpu").await?;
/// let objects = gpu.objects(&rhd_sdk::Env::new().name("train"));
/// objects.put("rates", &[0.1, 0.01]).await?;
/// let rates: Option<Vec<f64>> = objects.get("rates").await?;
/// assert_eq!(rates, Some(vec![0.1, 0.01]));
/// assert_eq!(objects.keys().await?, ["rates"]);
/// objects.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<Store>,
}

#[derive(Debug)]
struct Store {
    client: Client,
    node: Option<String>,
    env: EnvSpec,
    /// What answers there, from the first use on.
    class: Mutex<Option<Class>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Class {
    name: String,
    node: String,
}

impl Objects {
    pub(crate) fn new(client: Client, node: Option<String>, env: EnvSpec) -> Self {
        Self { store: Arc::new(Store { client, node, env, class: Mutex::default() }) }
    }

    /// Stores an object in place of what had the key, at most 200 characters.
    pub async fn put<T>(&self, key: &str, value: &T) -> Result<(), ErrorInfo>
    where
        T: Serialize + ?Sized,
    {
        self.ask("put", &(key, value)).await
    }

    /// A copy of the object of a key, if there is one.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ErrorInfo> {
        match self.call(Codec::Msgpack, "get", &(key,)).await {
            Ok(body) => value_of(Codec::Msgpack, &body).map(Some),
            // The class was found, so it is the key that was not.
            Err(Failed::There(error)) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(failed) => Err(failed.into()),
        }
    }

    /// All keys, in the order in which they were first stored.
    pub async fn keys(&self) -> Result<Vec<String>, ErrorInfo> {
        self.ask("keys", &[(); 0]).await
    }

    /// Gives an object another key; fails where an object has that one.
    pub async fn rename(&self, old: &str, new: &str) -> Result<(), ErrorInfo> {
        self.ask("rename", &(old, new)).await
    }

    /// Drops objects, or none where one of the keys is unknown.
    pub async fn delete<K: AsRef<str>>(&self, keys: &[K]) -> Result<(), ErrorInfo> {
        let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
        self.ask("delete", &(keys,)).await
    }

    /// Drops all objects.
    pub async fn clear(&self) -> Result<(), ErrorInfo> {
        self.ask("clear", &[(); 0]).await
    }

    /// Asks in another encoding: the answer to `put`, `get` and so on, as it came.
    pub async fn encoded(
        &self,
        codec: Codec,
        method: &str,
        args: &impl Serialize,
    ) -> Result<Bytes, ErrorInfo> {
        self.call(codec, method, args).await.map_err(ErrorInfo::from)
    }

    /// Has the env ready, which the first use does anyhow; `progress` takes each line of what is
    /// being done.
    pub async fn ready(&self, progress: impl FnMut(&str)) -> Result<(), ErrorInfo> {
        self.class(None, progress).await.map(drop)
    }

    /// Takes off the node what answered there; the objects stay. The end of the last handle does so
    /// by itself, but a program that ends right then may be too fast for it.
    pub async fn close(&self) -> Result<(), ErrorInfo> {
        match self.store.class.lock().await.take() {
            Some(class) => self.store.client.remove(&class.name, Some(&class.node)).await,
            None => Ok(()),
        }
    }

    async fn ask<R: DeserializeOwned>(
        &self,
        method: &str,
        args: &impl Serialize,
    ) -> Result<R, ErrorInfo> {
        value_of(Codec::Msgpack, &self.call(Codec::Msgpack, method, args).await?)
    }

    async fn call(
        &self,
        codec: Codec,
        method: &str,
        args: &impl Serialize,
    ) -> Result<Bytes, Failed> {
        // What can't be written is no reason to go anywhere.
        body_of(codec, args).map_err(Failed::Here)?;
        let class = self.class(None, |_| ()).await.map_err(Failed::Here)?;
        match self.once(&class, codec, method, args).await {
            // Its node has forgotten it, so nothing ran.
            Err(error)
                if error.kind == ErrorKind::NotFound && error.message.contains(&class.name) =>
            {
                let class = self.class(Some(&class), |_| ()).await.map_err(Failed::Here)?;
                self.once(&class, codec, method, args).await.map_err(Failed::There)
            }
            done => done.map_err(Failed::There),
        }
    }

    async fn once(
        &self,
        class: &Class,
        codec: Codec,
        method: &str,
        args: &impl Serialize,
    ) -> Result<Bytes, ErrorInfo> {
        let node = Some(class.node.clone());
        let what = Invocation { node, ..Invocation::of(&class.name).method(method) };
        let kwargs = BTreeMap::<String, ()>::new();
        let mut replies = self.store.client.start(&what, codec, args, &kwargs).await?;
        while let Some((reply, body)) = replies.next().await? {
            match reply {
                Reply::Done { .. } => return Ok(body),
                Reply::Fail { error, .. } => return Err(error),
                Reply::Log { .. } | Reply::Progress { .. } | Reply::Item { .. } => {}
            }
        }
        Err(not_understood("it has no end"))
    }

    /// The class there, put there where it is not, or in place of one that is gone.
    async fn class(
        &self,
        gone: Option<&Class>,
        progress: impl FnMut(&str),
    ) -> Result<Class, ErrorInfo> {
        let Store { client, node, env, class } = &*self.store;
        let mut held = class.lock().await;
        if let Some(class) = held.as_ref().filter(|class| Some(*class) != gone) {
            return Ok(class.clone());
        }
        let deploy = DeployRequest {
            v: VERSION,
            id: CallId::from_bytes(rand::random()),
            node: node.clone(),
            place: false,
            // Nobody else's, and listed nowhere.
            name: format!(".objects-{}", encode_base32(&rand::random::<[u8; 5]>())),
            env: env.clone(),
            roots: Vec::new(),
            entry: Entry::Import {
                module: "rhd.worker.objects".into(),
                qualname: "Objects".into(),
            },
            binary: None,
        };
        let deployed = client.deploy(deploy, &[], progress).await?;
        let class = Class { name: deployed.name, node: deployed.node_id };
        Ok(held.insert(class).clone())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let (Some(class), Ok(runtime)) =
            (self.class.get_mut().take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let client = self.client.clone();
        runtime.spawn(async move {
            if let Err(error) = client.remove(&class.name, Some(&class.node)).await {
                stays(&error);
            }
        });
    }
}

/// Where it failed.
enum Failed {
    /// On the way there.
    Here(ErrorInfo),
    /// In the store.
    There(ErrorInfo),
}

impl From<Failed> for ErrorInfo {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Here(error) | Failed::There(error) => error,
        }
    }
}

impl Cluster {
    /// The objects in the memory of an env there, for more than one use; [`close`](Objects::close)
    /// them in the end. Those of the node's own interpreter are reached by [`put`](Self::put) and so
    /// on.
    pub fn objects(&self, env: &Env) -> Objects {
        Objects::new(self.client().clone(), self.name().map(str::to_owned), env.spec.clone())
    }

    /// Stores an object on the node; see [`Objects::put`].
    pub async fn put<T>(&self, key: &str, value: &T) -> Result<(), ErrorInfo>
    where
        T: Serialize + ?Sized,
    {
        self.once(async |objects| objects.put(key, value).await).await
    }

    /// A copy of an object of the node; see [`Objects::get`].
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ErrorInfo> {
        self.once(async |objects| objects.get(key).await).await
    }

    /// The keys of the node's objects.
    pub async fn keys(&self) -> Result<Vec<String>, ErrorInfo> {
        self.once(async |objects| objects.keys().await).await
    }

    /// Gives an object of the node another key; see [`Objects::rename`].
    pub async fn rename(&self, old: &str, new: &str) -> Result<(), ErrorInfo> {
        self.once(async |objects| objects.rename(old, new).await).await
    }

    /// Drops objects of the node; see [`Objects::delete`].
    pub async fn delete<K: AsRef<str>>(&self, keys: &[K]) -> Result<(), ErrorInfo> {
        self.once(async |objects| objects.delete(keys).await).await
    }

    /// Drops all objects of the node.
    pub async fn clear(&self) -> Result<(), ErrorInfo> {
        self.once(async |objects| objects.clear().await).await
    }

    /// Asks, and leaves nothing but objects there: a program may end at any time.
    async fn once<R>(
        &self,
        ask: impl AsyncFnOnce(&Objects) -> Result<R, ErrorInfo>,
    ) -> Result<R, ErrorInfo> {
        let objects = self.objects(&Env::new());
        let done = ask(&objects).await;
        if let Err(error) = objects.close().await {
            stays(&error);
        }
        done
    }
}

fn stays(error: &ErrorInfo) {
    tracing::debug!(%error, "what answered for the objects of an env stays");
}
