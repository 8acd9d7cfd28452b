//! Two replicas on a database: what they change in the objects for one.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::{environment, generated, names, read};
use crate::deploy::{PROGRAM, find, path_of, ran, said, text_of};
use crate::harness::{Daemon, Process, World, need, wait_until};
use crate::state_copy::cluster::Cluster;

const FOLDER: &str = "kubernetes-two-replicas";

fn read_ours(file: &str) -> Value {
    let text = text_of(&format!("{FOLDER}/{file}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Merges `patch` into `base`, as kustomize does: lists of things with a name, or with a
/// place where they are mounted, by that.
fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(patch)) => {
            let key = |item: &Value| {
                ["mountPath", "name"]
                    .into_iter()
                    .find_map(|key| item[key].as_str().map(str::to_owned))
            };
            for item in patch {
                let Some(name) = key(item) else {
                    base.push(item.clone());
                    continue;
                };
                let at = base.iter().position(|one| key(one).as_ref() == Some(&name));
                match at {
                    Some(at) if item["$patch"] == "delete" => drop(base.remove(at)),
                    Some(at) => merge(&mut base[at], item),
                    None => {
                        assert!(item["$patch"].is_null(), "{name} is not there");
                        base.push(item.clone());
                    }
                }
            }
        }
        (base, patch) => base.clone_from(patch),
    }
}

/// The deployment of one replica with what two change.
fn deployment() -> Value {
    let mut merged = read("deployment.yaml");
    merge(&mut merged, &read_ours("deployment.yaml"));
    merged
}

fn container(deployment: &Value) -> Value {
    deployment["spec"]["template"]["spec"]["containers"][0].clone()
}

fn by_name(list: &Value) -> BTreeMap<&str, &Value> {
    let list = list.as_array().unwrap().iter();
    list.map(|item| (item["name"].as_str().unwrap(), item))
        .collect()
}

#[apply(test)]
fn kustomize_is_given_every_file_and_merges_them_as_these_tests_do() {
    let kustomization = read_ours("kustomization.yaml");
    let mut listed = names(&kustomization["resources"]);
    listed.retain(|file| *file != "../kubernetes");
    let patches = kustomization["patches"].as_array().unwrap();
    listed.extend(patches.iter().map(|patch| patch["path"].as_str().unwrap()));
    listed.push("kustomization.yaml");
    listed.sort_unstable();
    let mut there: Vec<String> = std::fs::read_dir(path_of(FOLDER))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(listed, there);
    // Where it is installed.
    if find("kubectl").is_none() {
        return;
    }
    let output = ran("kubectl", &["kustomize", path_of(FOLDER).to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let objects: Vec<Value> = said(&output)
        .split("\n---\n")
        .map(|object| serde_saphyr::from_str(object).unwrap())
        .collect();
    let kinds: Vec<&str> = objects
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert!(kinds.contains(&"PodDisruptionBudget"), "{kinds:?}");
    assert!(!kinds.contains(&"PersistentVolumeClaim"), "{kinds:?}");
    let merged = objects
        .iter()
        .find(|one| one["kind"] == "Deployment")
        .unwrap();
    let (theirs, ours) = (container(merged), container(&deployment()));
    for list in ["env", "volumeMounts"] {
        assert_eq!(by_name(&theirs[list]), by_name(&ours[list]), "{list}");
    }
    assert_eq!(theirs["readinessProbe"], ours["readinessProbe"]);
    let pod = |deployment: &Value| deployment["spec"]["template"]["spec"].clone();
    assert_eq!(pod(merged)["volumes"], pod(&deployment())["volumes"]);
    assert_eq!(merged["spec"]["strategy"], deployment()["spec"]["strategy"]);
}

#[apply(test)]
fn the_schemas_of_kubernetes_are_kept_to() {
    let folder = tempfile::tempdir().unwrap();
    let merged = folder.path().join("deployment.yaml");
    // JSON is YAML.
    std::fs::write(&merged, deployment().to_string()).unwrap();
    let budget = path_of(FOLDER).join("poddisruptionbudget.yaml");
    for path in [merged, budget] {
        let arguments = ["--strict", path.to_str().unwrap()];
        let output = ran("kubernetes-validate", &arguments);
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[apply(test)]
fn both_pods_are_never_down_at_once_on_purpose() {
    let merged = deployment();
    let spec = &merged["spec"];
    assert_eq!(spec["replicas"], 2);
    assert_eq!(spec["strategy"]["type"], "RollingUpdate");
    assert_eq!(spec["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    let labels = &spec["template"]["metadata"]["labels"];
    let budget = read_ours("poddisruptionbudget.yaml");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    assert_eq!(budget["spec"]["selector"]["matchLabels"], *labels);
    let affinity = &spec["template"]["spec"]["affinity"]["podAntiAffinity"];
    let apart = &affinity["preferredDuringSchedulingIgnoredDuringExecution"];
    for term in apart.as_array().unwrap() {
        let selector = &term["podAffinityTerm"]["labelSelector"];
        assert_eq!(selector["matchLabels"], *labels);
    }
    // Nothing is kept on a volume.
    let spec = &spec["template"]["spec"];
    assert_eq!(
        by_name(&spec["volumes"]).keys().collect::<Vec<_>>(),
        [&"secrets"]
    );
    for mount in container(&merged)["volumeMounts"].as_array().unwrap() {
        assert_eq!(mount["readOnly"], true, "{mount}");
    }
}

#[apply(test)]
async fn the_environment_of_two_pods_starts_a_leader_and_a_standby_that_is_ready() {
    need("PostgreSQL", Cluster::programs().is_some());
    let world = World::with_key("api-key-value").await;
    let cluster = Cluster::start(&["fsync=off"]).unwrap();
    let container = container(&deployment());
    let mut environment = environment(&world, &container);
    for (name, value) in generated(&read_ours("kustomization.yaml")) {
        environment.insert(name, value);
    }
    let state = environment.insert("DISPATCHD_STATE".into(), cluster.url("dispatchd"));
    assert!(state.unwrap().starts_with("postgres://"));
    for name in [
        "api-key",
        "webhook-secret",
        "status-token",
        "state-password",
    ] {
        std::fs::write(world.path(name), format!("{name}-value\n")).unwrap();
        let file = world.path(name).display().to_string();
        assert!(environment.values().any(|value| *value == file), "{name}");
    }
    let advertised = environment["DISPATCHD_ADVERTISE"].clone();
    assert!(advertised.starts_with("http://127.0.0.1:"), "{advertised}");
    let start = async || {
        let mut run = Command::new(PROGRAM);
        let arguments = names(&container["args"]).into_iter();
        run.env_clear().envs(&environment).args(arguments);
        Daemon::of(Process::spawn(&mut run)).await
    };
    let leader = start().await;
    wait_until("it leads", async || {
        leader.get("/leader").await.status == 200
    })
    .await;
    let standby = start().await;
    standby.wait_for_log("this one stands by").await;
    for daemon in [&leader, &standby] {
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let path = container[probe]["httpGet"]["path"].as_str().unwrap();
            wait_until(path, async || daemon.get(path).await.status == 200).await;
        }
    }
    assert_eq!(standby.get("/leader").await.status, 503);
    let node = cluster.sql("SELECT node || ' ' || advertise FROM dispatchd.leader");
    assert_eq!(node, format!("dispatchd-7x2 {advertised}"));
}
