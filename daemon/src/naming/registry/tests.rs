use bytes::Bytes;
use rhd_protocol::{code::*, env::EnvSpec, service::*};

use super::*;
use crate::workers::LoadUnit;

fn hosted(name: &str) -> Hosted {
    let version = Hash::of(name.as_bytes());
    let entry = Entry::Value { python: "3.11".into() };
    let load = Load { roots: vec![], entry, version };
    let unit = LoadUnit { service: name.into(), load, body: Bytes::from_static(b"code") };
    Hosted {
        service: Service {
            name: name.into(),
            kind: ServiceKind::Function,
            env: "base".into(),
            version,
            generation: 1,
            class: None,
            interface: Interface::default(),
        },
        env: EnvSpec::base(),
        unit: Some(Arc::new(unit)),
        made_from: None,
        incarnation: None,
    }
}

fn instance(name: &str, incarnation: u64) -> Hosted {
    let mut h = hosted(name);
    h.service.kind = ServiceKind::Instance;
    Hosted { unit: None, incarnation: Some(incarnation), ..h }
}

#[test]
fn functions_survive_a_restart_and_instances_do_not() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::open(home.path()).unwrap();
    registry.put(hosted("/a/f")).unwrap();
    assert_eq!(registry.put(hosted("/a/f")).unwrap().service.generation, 2);
    registry.put_instance(instance("/a/x", 7)).unwrap();
    assert!(matches!(registry.put_instance(instance("/a/x", 7)), Err(RegistryError::Exists(_))));
    assert!(matches!(registry.put(hosted("/a/x")), Err(RegistryError::Exists(_))));
    let again = Registry::open(home.path()).unwrap();
    assert_eq!(again.ads().len(), 1);
    assert_eq!(again.get("/a/f").unwrap().unit.as_ref().unwrap().body, "code");
    assert!(again.remove("/a/f").unwrap());
    assert!(Registry::open(home.path()).unwrap().ads().is_empty());
}

#[test]
fn a_dead_worker_takes_its_instances_along_and_no_others() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::open(home.path()).unwrap();
    registry.put_instance(instance("/a/x", 7)).unwrap();
    registry.put_instance(instance("/a/.y", 8)).unwrap();
    assert_eq!(registry.ads().len(), 1, "private names stay private");
    registry.put(hosted("/a/f")).unwrap();
    assert_eq!(registry.forget_lost(|env, i| env == "base" && i == 8), ["/a/x"]);
    assert!(registry.get("/a/f").is_some());
    assert!(registry.get("/a/.y").is_some());
}

#[test]
fn code_is_in_use_as_long_as_a_name_an_instance_or_a_call_stands_on_it() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::open(home.path()).unwrap();
    let version = |n: &str| {
        let mut hosted = hosted("/a/c");
        let mut unit = LoadUnit::clone(hosted.unit.as_ref().unwrap());
        let (project, dir) = ("p".into(), format!("/code/{n}"));
        unit.load.roots = vec![CodeRoot { project, dir, sys_path: vec![] }];
        hosted.unit = Some(Arc::new(unit));
        hosted
    };
    let in_use = |n: &str| registry.folders_in_use().contains(&format!("/code/{n}").into());
    let call = registry.put(version("1")).unwrap();
    let made_from = call.unit.clone();
    registry.put_instance(Hosted { made_from, ..instance("/a/x", 7) }).unwrap();
    registry.put(version("2")).unwrap();
    drop(call);
    assert!(in_use("1") && in_use("2"), "the instance may import more of its own version");
    registry.remove("/a/x").unwrap();
    assert!(!in_use("1") && in_use("2"));
    let call = registry.get("/a/c").unwrap();
    registry.remove("/a/c").unwrap();
    assert!(in_use("2"), "a call runs in it");
    drop(call);
    assert!(!in_use("2"));
    registry.put(version("3")).unwrap();
    let again = Registry::open(home.path()).unwrap();
    assert_eq!(again.folders_in_use(), [PathBuf::from("/code/3")]);
}

#[test]
fn a_damaged_record_is_put_aside() {
    let home = tempfile::tempdir().unwrap();
    drop(Registry::open(home.path()).unwrap());
    std::fs::write(home.path().join("services/x.svc"), b"\xc1junk").unwrap();
    assert!(Registry::open(home.path()).unwrap().ads().is_empty());
    assert!(home.path().join("services/x.damaged").exists());
}

#[test]
fn what_the_disk_refuses_changes_nothing_and_says_why() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::open(home.path()).unwrap();
    registry.put(hosted("/a/f")).unwrap();
    let file = registry.file("/a/f");
    std::fs::remove_file(&file).unwrap();
    // Neither a file to remove nor one to write: a folder, as good as a failing disk.
    std::fs::create_dir(&file).unwrap();
    assert!(registry.remove("/a/f").is_err());
    assert!(registry.get("/a/f").is_some());
    let error = ErrorInfo::from(registry.put(hosted("/a/f")).unwrap_err());
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(error.message.contains("irectory") && !error.hint.is_empty(), "{error:?}");
    assert_eq!(registry.get("/a/f").unwrap().service.generation, 1);
}

#[test]
fn no_generation_is_the_last() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::open(home.path()).unwrap();
    let mut last = hosted("/a/f");
    last.service.generation = u64::MAX;
    registry.put(last.clone()).unwrap();
    assert_eq!(registry.put(last).unwrap().service.generation, u64::MAX);
}

#[test]
fn names_are_bounded() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::open(home.path()).unwrap();
    for i in 0..MAX_SERVICES {
        registry.put_instance(instance(&format!("/a/{i}"), 1)).unwrap();
    }
    assert!(matches!(registry.put(hosted("/a/f")), Err(RegistryError::Full(_))));
    registry.put_instance(instance("/a/.private", 1)).unwrap();
}
