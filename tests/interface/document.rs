//! The description of the interface, and what must hold by it.

use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use jsonschema::Validator;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Map, Value, json};

use crate::harness::{Answer, Daemon};

/// The document of a daemon.
pub struct Document(Value);

impl Document {
    /// What the daemon says of itself, taken at its word: a field that no schema
    /// names is a mistake here, though clients must bear it.
    pub async fn of(daemon: &Daemon) -> Self {
        let mut document = daemon.get("/openapi.json").await.json;
        for (name, schema) in document["components"]["schemas"].as_object_mut().unwrap() {
            // These are parts of others, and know nothing of the rest.
            if !name.ends_with("Fields") {
                close(schema);
            }
        }
        Self(document)
    }

    /// Every method and path.
    pub fn routes(&self) -> Vec<String> {
        let paths = self.0["paths"].as_object().unwrap();
        let routes = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        routes.collect()
    }

    /// Asks for `path`, which is one of `route`, and checks the answer; and, if
    /// it has a tag, that it is not sent twice.
    pub async fn check(&self, daemon: &Daemon, method: Method, path: &str, route: &str) -> Answer {
        let request = daemon.http.request(method.clone(), daemon.status_url(path));
        let reply = request.send().await.unwrap();
        let described = self.described(&method, route, &reply);
        if let Some(tag) = reply.headers().get(ETAG) {
            let again = daemon
                .http
                .get(daemon.status_url(path))
                .header(IF_NONE_MATCH, tag);
            let again = again.send().await.unwrap();
            assert_eq!(again.status(), 304, "{path}");
            self.described(&method, route, &again);
        }
        self.read(reply, &described, path).await
    }

    /// Checks the answer to a request with a body.
    pub async fn answer(&self, request: RequestBuilder, method: &Method, route: &str) -> Answer {
        let reply = request.send().await.unwrap();
        let described = self.described(method, route, &reply);
        self.read(reply, &described, route).await
    }

    async fn read(&self, reply: Response, described: &Value, what: &str) -> Answer {
        let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
        let json: Value = serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap_or_default();
        if let Some(schema) = described.pointer("/content/application~1json/schema") {
            self.validate(schema, &json, what);
        }
        Answer {
            status,
            headers,
            json,
        }
    }

    /// Checks an answer whose body does not end.
    pub fn check_head(&self, route: &str, reply: &Response) {
        self.described(&Method::GET, route, reply);
    }

    /// Checks a value by the schema of this name.
    pub fn holds(&self, name: &str, value: &Value) {
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        self.validate(&schema, value, name);
    }

    /// What the document says about an answer with this status, after its
    /// headers were held against it.
    fn described(&self, method: &Method, route: &str, reply: &Response) -> Value {
        let status = reply.status().as_u16();
        let method = method.as_str().to_lowercase();
        let described = &self.0["paths"][route][method]["responses"][status.to_string()];
        let described = self.resolved(described);
        assert!(described.is_object(), "{route}: {status} is not documented");
        let sent = reply
            .headers()
            .get(CONTENT_TYPE)
            .map(|kind| kind.to_str().unwrap());
        let kinds = described["content"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        match sent.and_then(|kind| kind.split(';').next()) {
            Some(kind) => assert!(kinds.contains_key(kind), "{route}: {status} with {kind}"),
            None => assert!(kinds.is_empty(), "{route}: {status} without a content type"),
        }
        for (name, header) in described["headers"].as_object().unwrap_or(&Map::new()) {
            if self.resolved(header)["required"] == true {
                assert!(
                    reply.headers().contains_key(name),
                    "{route}: {status} without {name}"
                );
            }
        }
        described
    }

    fn resolved(&self, value: &Value) -> Value {
        match value["$ref"].as_str() {
            Some(reference) => self
                .0
                .pointer(reference.trim_start_matches('#'))
                .unwrap()
                .clone(),
            None => value.clone(),
        }
    }

    fn validate(&self, schema: &Value, value: &Value, what: &str) {
        let mut schema = schema.clone();
        schema["components"] = self.0["components"].clone();
        let validator: Validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap();
        let errors: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{what}: {errors:#?}\n{value:#}");
    }
}

/// Lets every object in a schema have those fields only that it names.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_object = fields.get("properties").is_some_and(Value::is_object);
            let is_joined = fields.get("allOf").is_some_and(Value::is_array);
            for (keyword, inner) in fields.iter_mut() {
                // What is joined is closed as a whole.
                if keyword == "allOf" {
                    for part in inner.as_array_mut().unwrap() {
                        if let Some(properties) = part.get_mut("properties") {
                            close(properties);
                        }
                    }
                } else {
                    close(inner);
                }
            }
            if is_object || is_joined {
                fields.insert("unevaluatedProperties".into(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
