//! Programs as envs: the deployer's file, and the host's checks before it runs.

use std::path::Path;

use rhd_protocol::{
    code::Entry,
    env::{Binary, EnvSpec},
    error::{ErrorInfo, ErrorKind},
    id::Hash,
    wire::Deployment,
};

use super::Inner;
use crate::{blobs::Snapshot, workers};

/// Reads the program that a deployment brings, and makes `env` the env of it.
pub(super) async fn attach(
    inner: &Inner,
    path: String,
    env: &mut EnvSpec,
) -> Result<Snapshot, ErrorInfo> {
    let (snapshot, target) = inner.blobs.program(path, &inner.mesh.me().to_string()).await?;
    let Some((name, file)) = snapshot.manifest.files.iter().next() else {
        return Err(ErrorInfo::new(ErrorKind::Internal, "a program without a file"));
    };
    if env.name.is_empty() {
        // The same for each build of one program: a new build takes the place of the one before.
        let stem: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        let origin = Hash::of(snapshot.project.as_bytes()).short();
        env.name = format!("{}-{}", stem.trim(), &origin[..6]);
    }
    env.binary = Some(Binary { hash: file.hash, size: file.size, target: target.to_string() });
    Ok(snapshot)
}

/// Whether a deployment brings a program; refuses one that this node can't run.
pub(super) fn check(inner: &Inner, deployment: &Deployment) -> Result<bool, ErrorInfo> {
    let bad = |message: &str| Err(ErrorInfo::new(ErrorKind::BadRequest, message));
    let Some(binary) = &deployment.env.binary else {
        return match deployment.entry {
            Entry::Native { .. } => bad("a compiled function without its program"),
            _ => Ok(false),
        };
    };
    if !matches!(deployment.entry, Entry::Native { .. }) {
        return bad("a program serves only the functions that are compiled into it");
    }
    let mut files = deployment.roots.iter().flat_map(|root| root.manifest.files.values());
    match (files.next(), files.next()) {
        (Some(file), None)
            if file.exec
                && file.link.is_none()
                && (file.hash, file.size) == (binary.hash, binary.size) => {}
        _ => return bad("a deployment of a program brings that one file"),
    }
    fits(inner, &binary.target)?;
    Ok(true)
}

fn fits(inner: &Inner, target: &str) -> Result<(), ErrorInfo> {
    let here = workers::targets();
    if here.iter().any(|here| here.runs(target)) {
        return Ok(());
    }
    let (node, ours) = (inner.mesh.name(), here.first().map(ToString::to_string));
    let ours = ours.unwrap_or_default();
    Err(ErrorInfo::new(
        ErrorKind::VersionMismatch,
        format!("the program is built for {target}, and node {node} is {ours}"),
    )
    .hint(format!("build it for {ours} (cargo build --target …) and deploy that; nothing ran"))
    .on(&node))
}

/// Hands the program's file, which must be here, to its env.
pub(super) async fn provide(inner: &Inner, deployment: &Deployment) -> Result<(), ErrorInfo> {
    let Some(offer) = deployment.roots.first() else { return Ok(()) };
    let Some(name) = offer.manifest.files.keys().next() else { return Ok(()) };
    let root = inner.blobs.code_root(offer).await?;
    let target = inner.workers.provide(&deployment.env, &Path::new(&root.dir).join(name)).await?;
    // What the deployer said of it was only enough to refuse early.
    fits(inner, &target.to_string())
}
