//! Where traces go, and which: [`Settings`], from the standard variables of OpenTelemetry.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_sdk::trace::Sampler;
use url::Url;

use super::variables::{VariableError, Variables, pairs};

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const ENDPOINT: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
const PROTOCOL: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
const HEADERS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_HEADERS",
];
const TIMEOUT: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
];
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
const DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";

/// Would need files and formats that are not read.
const NOT_SUPPORTED: [[&str; 2]; 3] = [
    [
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
    ],
    [
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    ],
    [
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    ],
];

/// The variables that are read, for the documentation.
pub const VARIABLES: [&str; 17] = [
    ENDPOINT[1],
    ENDPOINT[0],
    HEADERS[1],
    HEADERS[0],
    PROTOCOL[1],
    PROTOCOL[0],
    TIMEOUT[1],
    TIMEOUT[0],
    SERVICE_NAME,
    RESOURCE,
    SAMPLER,
    SAMPLER_ARG,
    QUEUE,
    BATCH,
    DELAY,
    EXPORTER,
    DISABLED,
];

/// Where traces go, and which.
#[derive(Clone)]
pub struct Settings {
    /// Where spans are posted to.
    pub(super) endpoint: Url,
    /// What goes with them. May hold secrets.
    pub(super) headers: HeaderMap,
    /// The longest that one batch may take, tries and pauses together.
    pub(super) timeout: Duration,
    /// What describes this daemon.
    pub(super) resource: Vec<(String, String)>,
    pub(super) sampler: Sampler,
    /// The most spans that wait.
    pub(super) queue: usize,
    /// The most spans in one batch.
    pub(super) batch: usize,
    /// How long a span waits for others.
    pub(super) delay: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Settings");
        all.field("to", &self.to()).finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the variables, which `env` looks up, for the daemon called `node`. `None` if
    /// no collector is named, or tracing is switched off.
    ///
    /// # Errors
    /// The first variable that cannot be used.
    pub fn read(
        env: &dyn Fn(&str) -> Option<String>,
        node: &str,
    ) -> Result<Option<Self>, VariableError> {
        let env = Variables(env);
        let is_true = |value: String| value.eq_ignore_ascii_case("true");
        if env.get(DISABLED).is_some_and(is_true) {
            return Ok(None);
        }
        let Some(endpoint) = endpoint(&env)? else {
            return Ok(None);
        };
        match env.get(EXPORTER).as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                return Err(wrong(
                    EXPORTER,
                    format!("`{other}` is not supported: write otlp or none"),
                ));
            }
        }
        protocol(&env)?;
        for names in NOT_SUPPORTED {
            if let Some((name, _)) = env.first(names) {
                return Err(wrong(
                    name,
                    "is not supported: unset it; a certificate of your own belongs to the \
                     system's (/usr/local/share/ca-certificates and update-ca-certificates)",
                ));
            }
        }
        let queue = env.number([QUEUE; 2], "spans")?.unwrap_or(2048);
        let batch = env.number([BATCH; 2], "spans")?.unwrap_or(512);
        Ok(Some(Self {
            endpoint,
            headers: headers(&env)?,
            timeout: milliseconds(&env, TIMEOUT, 10_000)?,
            resource: resource(&env, node)?,
            sampler: sampler(&env)?,
            queue,
            batch: batch.min(queue),
            delay: milliseconds(&env, [DELAY; 2], 5000)?,
        }))
    }

    /// Where spans are posted to, without credentials.
    pub fn to(&self) -> String {
        let origin = self.endpoint.origin().ascii_serialization();
        format!("{origin}{}", self.endpoint.path())
    }
}

fn wrong(name: &'static str, problem: impl Into<String>) -> VariableError {
    VariableError {
        name,
        problem: problem.into(),
    }
}

/// Where spans are posted to: as it stands if it is that of traces, else with the path that
/// belongs to them.
fn endpoint(env: &Variables<'_>) -> Result<Option<Url>, VariableError> {
    let Some((name, value)) = env.first(ENDPOINT) else {
        return Ok(None);
    };
    // Whatever it holds, it is not repeated: there may be a password in it.
    let example = "write http://host:4318";
    let url = Url::parse(&value);
    let mut url = url.map_err(|error| wrong(name, format!("is no URL ({error}): {example}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong(
            name,
            format!("is no http:// or https:// URL: {example}"),
        ));
    }
    if name == ENDPOINT[1] {
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(Some(url))
}

fn protocol(env: &Variables<'_>) -> Result<(), VariableError> {
    match env.first(PROTOCOL) {
        None => Ok(()),
        Some((_, protocol)) if protocol == "http/protobuf" => Ok(()),
        Some((name, protocol)) => Err(wrong(
            name,
            format!(
                "`{protocol}` is not supported: write http/protobuf, and give the collector's \
                 port for it, which is usually 4318"
            ),
        )),
    }
}

fn headers(env: &Variables<'_>) -> Result<HeaderMap, VariableError> {
    let mut headers = HeaderMap::new();
    let Some((name, text)) = env.first(HEADERS) else {
        return Ok(headers);
    };
    for (key, value) in pairs(name, &text)? {
        let header: HeaderName = key
            .parse()
            .map_err(|_| wrong(name, format!("`{key}` is no name of a header: correct it")))?;
        let mut value: HeaderValue = value.parse().map_err(|_| {
            wrong(
                name,
                format!("the value of `{key}` cannot be sent in a header: correct it"),
            )
        })?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

fn milliseconds(
    env: &Variables<'_>,
    names: [&'static str; 2],
    default: u64,
) -> Result<Duration, VariableError> {
    let given = env.number(names, "milliseconds")?;
    Ok(Duration::from_millis(given.unwrap_or(default)))
}

/// What describes this daemon: what the operator says goes before what is known.
fn resource(env: &Variables<'_>, node: &str) -> Result<Vec<(String, String)>, VariableError> {
    let mut all: Vec<(String, String)> = [
        ("service.name", env!("CARGO_PKG_NAME")),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", node),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let given = env.get(RESOURCE);
    let given = given.map_or(Ok(Vec::new()), |text| pairs(RESOURCE, &text))?;
    let name = env.get(SERVICE_NAME);
    let name = name.map(|name| ("service.name".to_owned(), name));
    for (key, value) in given.into_iter().chain(name) {
        match all.iter_mut().find(|(known, _)| *known == key) {
            Some(known) => known.1 = value,
            None => all.push((key, value)),
        }
    }
    Ok(all)
}

fn sampler(env: &Variables<'_>) -> Result<Sampler, VariableError> {
    let of_parent = |root: Sampler| Sampler::ParentBased(Box::new(root));
    let Some(name) = env.get(SAMPLER) else {
        return Ok(of_parent(Sampler::AlwaysOn));
    };
    match name.as_str() {
        "always_on" => Ok(Sampler::AlwaysOn),
        "always_off" => Ok(Sampler::AlwaysOff),
        "traceidratio" => Ok(Sampler::TraceIdRatioBased(ratio(env)?)),
        "parentbased_always_on" => Ok(of_parent(Sampler::AlwaysOn)),
        "parentbased_always_off" => Ok(of_parent(Sampler::AlwaysOff)),
        "parentbased_traceidratio" => Ok(of_parent(Sampler::TraceIdRatioBased(ratio(env)?))),
        _ => Err(wrong(
            SAMPLER,
            format!(
                "`{name}` is not supported: write always_on, always_off, traceidratio, or one of \
                 them behind parentbased_"
            ),
        )),
    }
}

fn ratio(env: &Variables<'_>) -> Result<f64, VariableError> {
    let Some(text) = env.get(SAMPLER_ARG) else {
        return Ok(1.0);
    };
    let ratio: Option<f64> = text.parse().ok();
    ratio
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| {
            wrong(
                SAMPLER_ARG,
                format!("`{text}` is no part of all traces: write a number from 0 to 1"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let env = |name: &str| {
            let mut variables = variables.iter();
            let found = variables.find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::read(&env, "here").map_err(|error| error.to_string())
    }

    fn with(more: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        read(&[&[TO], more].concat())
    }

    #[test]
    fn without_a_collector_there_are_no_traces() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("OTEL_SERVICE_NAME", "x")]).unwrap().is_none());
        assert!(read(&[(TO.0, "")]).unwrap().is_none());
        assert!(with(&[("OTEL_SDK_DISABLED", "TRUE")]).unwrap().is_none());
        assert!(with(&[("OTEL_TRACES_EXPORTER", "none")]).unwrap().is_none());
        assert!(with(&[("OTEL_SDK_DISABLED", "false")]).unwrap().is_some());
    }

    #[test]
    fn the_path_of_traces_is_added_to_an_endpoint_of_all_signals_alone() {
        let to = |variables: &[(&str, &str)]| read(variables).unwrap().unwrap().to();
        assert_eq!(to(&[TO]), "http://collector:4318/v1/traces");
        let base = "http://u:p@collector:4318/otlp/";
        assert_eq!(to(&[(TO.0, base)]), "http://collector:4318/otlp/v1/traces");
        let whole = (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://other/somewhere",
        );
        assert_eq!(to(&[TO, whole]), "https://other/somewhere");
    }

    #[test]
    fn the_daemon_is_described_as_the_operator_says() {
        let resource = |more: &[(&str, &str)]| with(more).unwrap().unwrap().resource;
        let of = |resource: Vec<(String, String)>, key: &str| {
            let mut resource = resource.into_iter();
            resource.find(|(known, _)| known == key).unwrap().1
        };
        assert_eq!(of(resource(&[]), "service.name"), "dispatchd");
        assert_eq!(of(resource(&[]), "service.instance.id"), "here");
        let given = [
            (
                RESOURCE,
                "service.name=a, deployment.environment=plant%2C%20west",
            ),
            (SERVICE_NAME, "b"),
        ];
        assert_eq!(of(resource(&given), "service.name"), "b");
        assert_eq!(
            of(resource(&given), "deployment.environment"),
            "plant, west"
        );
    }

    #[test]
    fn a_variable_that_cannot_be_used_is_named_with_reason_and_remedy() {
        let cases: [(&str, &str, &[&str]); 12] = [
            (
                TO.0,
                "collector:4318",
                &["no http:// or https:// URL", "http://host:4318"],
            ),
            (TO.0, "nowhere", &["is no URL", "http://host:4318"]),
            (
                PROTOCOL[1],
                "grpc",
                &["`grpc` is not supported", "http/protobuf", "4318"],
            ),
            (
                PROTOCOL[0],
                "http/json",
                &["`http/json` is not supported", "http/protobuf"],
            ),
            (
                HEADERS[1],
                "a=1,secret",
                &["entry 2 has no `=`", "key=value"],
            ),
            (HEADERS[1], "a b=secret", &["`a b` is no name of a header"]),
            (
                TIMEOUT[1],
                "10s",
                &["`10s` is no number of milliseconds", "from 1 on"],
            ),
            (SAMPLER, "xray", &["`xray` is not supported", "always_on"]),
            (
                EXPORTER,
                "zipkin",
                &["`zipkin` is not supported", "otlp or none"],
            ),
            (QUEUE, "0", &["`0` is no number of spans", "from 1 on"]),
            (RESOURCE, "a=%FF", &["entry 1", "no UTF-8"]),
            (
                NOT_SUPPORTED[0][1],
                "/ca.pem",
                &["is not supported", "unset it"],
            ),
        ];
        for (name, value, parts) in cases {
            let error = read(&[(name, value), TO]).unwrap_err();
            assert!(error.starts_with(&format!("{name}: ")), "{error}");
            for part in parts {
                assert!(error.contains(part), "{error}: {part}");
            }
            assert!(!error.contains("secret"), "{error}");
        }
        let ratio = [(SAMPLER, "traceidratio"), (SAMPLER_ARG, "2")];
        let error = with(&ratio).unwrap_err();
        assert!(error.contains("OTEL_TRACES_SAMPLER_ARG: `2`"), "{error}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = [
            (HEADERS[1], "x-api-key=hunter2"),
            (TO.0, "http://u:hunter2@c:1"),
        ];
        let settings = read(&secret).unwrap().unwrap();
        assert_eq!(settings.headers["x-api-key"], "hunter2");
        let shown = format!("{settings:?} {:?}", settings.headers);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
