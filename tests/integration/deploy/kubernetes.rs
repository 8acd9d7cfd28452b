//! The objects for Kubernetes. No cluster runs here.

mod two_replicas;

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::{PROGRAM, path_of, ran, said, text_of};
use crate::harness::{Daemon, Process, World, ask};

fn read(file: &str) -> Value {
    let text = text_of(&format!("kubernetes/{file}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|item| item.as_str().unwrap()).collect()
}

/// The pod, and its one container.
fn pod() -> (Value, Value) {
    let spec = &read("deployment.yaml")["spec"]["template"]["spec"];
    let containers = spec["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    (spec.clone(), containers[0].clone())
}

#[apply(test)]
fn kustomize_is_given_every_file_that_is_there() {
    let kustomization = read("kustomization.yaml");
    let mut listed = names(&kustomization["resources"]);
    listed.push("kustomization.yaml");
    listed.sort_unstable();
    // What is in a folder is for some clusters only.
    let mut there: Vec<String> = std::fs::read_dir(path_of("kubernetes"))
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(listed, there);
    let (_, container) = pod();
    assert_eq!(kustomization["images"][0]["name"], container["image"]);
    let generated = &kustomization["configMapGenerator"][0]["name"];
    assert_eq!(container["envFrom"][0]["configMapRef"]["name"], *generated);
}

#[apply(test)]
fn the_schemas_of_kubernetes_are_kept_to() {
    for file in names(&read("kustomization.yaml")["resources"]) {
        let path = path_of("kubernetes").join(file);
        let arguments = ["--strict", path.to_str().unwrap()];
        let output = ran("kubernetes-validate", &arguments);
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[apply(test)]
fn one_daemon_at_a_time_uses_the_state_and_nothing_is_writable_beside_it() {
    let deployment = read("deployment.yaml");
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");
    let (pod, container) = pod();
    let claim = &pod["volumes"][0]["persistentVolumeClaim"]["claimName"];
    assert_eq!(*claim, read("storage.yaml")["metadata"]["name"]);
    for mount in container["volumeMounts"].as_array().unwrap() {
        let is_state = mount["mountPath"] == "/var/lib/dispatchd";
        assert!(is_state || mount["readOnly"] == true, "{mount}");
    }
    let restricted = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], restricted);
    let context = &pod["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    let enforced = read("namespace.yaml")["metadata"]["labels"].clone();
    assert_eq!(enforced["pod-security.kubernetes.io/enforce"], "restricted");
}

#[apply(test)]
fn the_operator_of_prometheus_scrapes_the_pod_under_the_name_that_the_alerts_expect() {
    let monitor = read("prometheus-operator/podmonitor.yaml");
    assert_eq!(monitor["kind"], "PodMonitor");
    assert_eq!(
        monitor["metadata"]["namespace"],
        read("kustomization.yaml")["namespace"]
    );
    let deployment = read("deployment.yaml");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], *labels);
    // The job is named after this label of the pod.
    let label = monitor["spec"]["jobLabel"].as_str().unwrap();
    let job = labels[label].as_str().unwrap();
    assert!(text_of("prometheus/alerts.yml").contains(&format!("up{{job=\"{job}\"}}")));
    let [endpoint] = &monitor["spec"]["podMetricsEndpoints"].as_array().unwrap()[..] else {
        panic!("one endpoint");
    };
    let (pod, container) = pod();
    let ports = container["ports"].as_array().unwrap();
    assert!(ports.iter().any(|port| port["name"] == endpoint["port"]));
    let credentials = &endpoint["authorization"]["credentials"];
    assert_eq!(
        credentials["name"],
        pod["volumes"][1]["secret"]["secretName"]
    );
    let file = format!("/etc/dispatchd/{}", credentials["key"].as_str().unwrap());
    let variables = container["env"].as_array().unwrap();
    let token = variables
        .iter()
        .find(|variable| variable["value"] == file.as_str());
    assert_eq!(token.unwrap()["name"], "DISPATCHD_STATUS_TOKEN_FILE");
}

/// The README joins the head and the alerts by this.
#[apply(test)]
fn the_alerts_become_a_rule_of_the_operator() {
    let page = text_of("README.md");
    let mut lines = page.lines();
    let joined = lines.find(|line| line.contains("rule-head.yaml")).unwrap();
    let (join, apply) = joined.rsplit_once(" | ").unwrap();
    assert_eq!(apply, "kubectl apply -f -");
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new("sh")
        .args(["-c", join])
        .current_dir(root)
        .output();
    let rule: Value = serde_saphyr::from_str(&said(&output.unwrap())).unwrap();
    assert_eq!(rule["kind"], "PrometheusRule");
    let alerts: Value = serde_saphyr::from_str(&text_of("prometheus/alerts.yml")).unwrap();
    assert_eq!(rule["spec"], alerts);
}

#[apply(test)]
fn an_ingress_controller_is_chosen() {
    let class = &read("ingress.yaml")["spec"]["ingressClassName"];
    assert!(class.as_str().is_some_and(|class| !class.is_empty()));
}

#[apply(test)]
fn nothing_leads_to_the_status_but_probes_and_prometheus() {
    let (_, container) = pod();
    let ports: BTreeMap<&str, u64> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| {
            (
                port["name"].as_str().unwrap(),
                port["containerPort"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        ports,
        BTreeMap::from([("status", 5001), ("webhooks", 5000)])
    );
    let service = read("service.yaml");
    let [port] = &service["spec"]["ports"].as_array().unwrap()[..] else {
        panic!("one port");
    };
    assert_eq!(port["targetPort"], "webhooks");
    let ingress = read("ingress.yaml");
    let [rule] = &ingress["spec"]["rules"].as_array().unwrap()[..] else {
        panic!("one rule");
    };
    let [path] = &rule["http"]["paths"].as_array().unwrap()[..] else {
        panic!("one path");
    };
    assert_eq!(path["path"], dispatchd::model::WEBHOOK_PATH);
    let backend = &path["backend"]["service"];
    assert_eq!(backend["name"], service["metadata"]["name"]);
    assert_eq!(backend["port"]["name"], port["name"]);
    let policy = read("networkpolicy.yaml");
    for rule in policy["spec"]["ingress"].as_array().unwrap() {
        let port = &rule["ports"][0]["port"];
        assert!(
            port == "webhooks" || (port == "status" && rule["from"].is_array()),
            "{rule}"
        );
    }
}

/// The variables that a kustomization generates.
fn generated(kustomization: &Value) -> BTreeMap<String, String> {
    let literals = &kustomization["configMapGenerator"][0]["literals"];
    let pairs = names(literals).into_iter();
    pairs
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What Kubernetes knows of a pod.
const OF_THE_POD: [(&str, &str); 2] = [
    ("metadata.name", "dispatchd-7x2"),
    ("status.podIP", "127.0.0.1"),
];

/// The environment of the pod, with the paths and addresses of this world.
fn environment(world: &World, container: &Value) -> BTreeMap<String, String> {
    let mut all = generated(&read("kustomization.yaml"));
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap().to_owned();
        let value = match variable["value"].as_str() {
            // Only what stands above can be named.
            Some(value) => all.iter().fold(value.to_owned(), |value, (name, known)| {
                value.replace(&format!("$({name})"), known)
            }),
            None => {
                let field = &variable["valueFrom"]["fieldRef"]["fieldPath"];
                let known = OF_THE_POD.iter().find(|(path, _)| field == path);
                known.unwrap().1.to_owned()
            }
        };
        assert!(!value.contains("$("), "{value}");
        all.insert(name, value);
    }
    let here = world.folder().display().to_string();
    for value in all.values_mut() {
        for folder in ["/var/lib/dispatchd", "/etc/dispatchd"] {
            *value = value.replace(folder, &here);
        }
        *value = value.replace(":5000", ":0").replace(":5001", ":0");
    }
    all.insert("VOLTUS_API_URL".into(), world.sandbox.url());
    // What the operator must decide on: until then the daemon does not start.
    for (name, decision) in [
        ("DISPATCHD_SINKS", "none"),
        ("DISPATCHD_PUBLIC_URL", "http://127.0.0.1:1"),
    ] {
        let undecided = all.insert(name.to_owned(), decision.to_owned());
        assert_eq!(undecided.as_deref(), Some(""), "{name}");
    }
    all
}

#[apply(test)]
async fn the_pods_environment_starts_a_daemon_whose_probes_need_no_token() {
    let world = World::with_key("api-key-value").await;
    let (_, container) = pod();
    let environment = environment(&world, &container);
    for name in ["api-key", "webhook-secret", "status-token"] {
        std::fs::write(world.path(name), format!("{name}-value\n")).unwrap();
        let file = world.path(name).display().to_string();
        assert!(environment.values().any(|value| *value == file), "{name}");
    }
    let mut run = Command::new(PROGRAM);
    let arguments = names(&container["args"]).into_iter();
    run.env_clear().envs(environment).args(arguments);
    let daemon = Daemon::of(Process::spawn(&mut run)).await;
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["port"], "status");
        let path = get["path"].as_str().unwrap();
        crate::harness::wait_until(path, async || daemon.get(path).await.status == 200).await;
    }
    assert_eq!(daemon.get("/status").await.status, 401);
    let request = daemon.http.get(daemon.status_url("/status"));
    assert_eq!(
        ask(request.bearer_auth("status-token-value")).await.status,
        200
    );
}
