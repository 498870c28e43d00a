use super::query::decode;
use crate::custom::Catalogue;
use crate::resources::Resource;
use crate::status::Status;

/// What a path names.
#[derive(Debug)]
pub enum Route {
    /// `/healthz`, `/livez`, `/readyz` and what is below them.
    Health,
    /// `/version`.
    Version,
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`.
    Resources {
        /// The API group, empty for core.
        group: String,
        /// Its version.
        version: String,
    },
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`.
    OpenApiIndex,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`.
    OpenApi {
        /// The API group, empty for core.
        group: String,
        /// Its version.
        version: String,
    },
    /// A collection, an object or a subresource.
    Target(Target),
}

/// A collection, an object or a subresource.
#[derive(Debug, Clone)]
pub struct Target {
    /// Of what.
    pub resource: &'static Resource,
    /// In which namespace; `None` for cluster-scoped kinds and for all namespaces.
    pub namespace: Option<String>,
    /// Which object; `None` for the collection.
    pub name: Option<String>,
    /// `status`, `log`...
    pub subresource: Option<String>,
}

impl Route {
    /// Reads a path.
    ///
    /// # Errors
    /// 404 for everything that this server does not have.
    pub fn parse(path: &str, served: &Catalogue) -> Result<Self, Status> {
        let steps: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(decode_step).collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let own = |group: &str, version: &str| (group.to_owned(), version.to_owned());
        match steps[..] {
            ["healthz" | "livez" | "readyz", ..] => Ok(Self::Health),
            ["version"] => Ok(Self::Version),
            ["api"] => Ok(Self::CoreVersions),
            ["apis"] => Ok(Self::Groups),
            ["apis", group] => Ok(Self::Group(group.to_owned())),
            ["api", version] => Ok(Self::resources(own("", version))),
            ["apis", group, version] => Ok(Self::resources(own(group, version))),
            ["openapi", "v2"] => Ok(Self::OpenApiV2),
            ["openapi", "v3"] => Ok(Self::OpenApiIndex),
            ["openapi", "v3", "api", version] => Ok(Self::open_api(own("", version))),
            ["openapi", "v3", "apis", group, version] => Ok(Self::open_api(own(group, version))),
            ["api", version, ref rest @ ..] => Target::parse(served, "", version, rest).map(Self::Target),
            ["apis", group, version, ref rest @ ..] if !group.is_empty() => {
                Target::parse(served, group, version, rest).map(Self::Target)
            }
            _ => Err(Status::unknown_path()),
        }
    }

    fn resources((group, version): (String, String)) -> Self {
        Self::Resources { group, version }
    }

    fn open_api((group, version): (String, String)) -> Self {
        Self::OpenApi { group, version }
    }
}

/// A path step has no `+` for a space.
fn decode_step(step: &str) -> String {
    decode(&step.replace('+', "%2B"))
}

impl Target {
    fn parse(served: &Catalogue, group: &str, version: &str, steps: &[&str]) -> Result<Self, Status> {
        let (namespace, steps) = match steps {
            // `/namespaces/NAME/status` is about the namespace; `/namespaces/NAME/pods` is in it.
            ["namespaces", namespace, plural, rest @ ..] if !(group.is_empty() && *plural == "status") => {
                (Some((*namespace).to_owned()), [&[*plural], rest].concat())
            }
            other => (None, other.to_vec()),
        };
        let (plural, rest) = steps.split_first().ok_or_else(Status::unknown_path)?;
        let resource = served.find(group, version, plural).ok_or_else(Status::unknown_path)?;
        let (name, subresource) = match rest {
            [] => (None, None),
            [name] => (Some((*name).to_owned()), None),
            [name, sub] => (Some((*name).to_owned()), Some((*sub).to_owned())),
            _ => return Err(Status::unknown_path()),
        };
        let scope_fits = if resource.kind.namespaced {
            namespace.is_some() || name.is_none()
        } else {
            namespace.is_none()
        };
        if !scope_fits {
            return Err(Status::unknown_path());
        }
        Ok(Self { resource, namespace, name, subresource })
    }

    /// The namespace as a key has it: empty for cluster-scoped kinds.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Option<String> {
        match Route::parse(path, &Catalogue::default()).ok()? {
            Route::Target(t) => Some(format!(
                "{} ns={} name={} sub={}",
                t.resource.group_resource(),
                t.namespace.as_deref().unwrap_or("-"),
                t.name.as_deref().unwrap_or("-"),
                t.subresource.as_deref().unwrap_or("-")
            )),
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        let cases = [
            ("/api/v1/pods", "pods ns=- name=- sub=-"),
            ("/api/v1/namespaces/shop/pods/web-1/log", "pods ns=shop name=web-1 sub=log"),
            ("/api/v1/namespaces", "namespaces ns=- name=- sub=-"),
            ("/api/v1/namespaces/shop", "namespaces ns=- name=shop sub=-"),
            ("/api/v1/namespaces/shop/status", "namespaces ns=- name=shop sub=status"),
            (
                "/apis/apps/v1/namespaces/shop/deployments/web/scale",
                "deployments.apps ns=shop name=web sub=scale",
            ),
            ("/api/v1/nodes/node-1/", "nodes ns=- name=node-1 sub=-"),
        ];
        for (path, expected) in cases {
            assert_eq!(target(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn what_is_not_served_is_not_found() {
        for path in [
            "/",
            "/foo",
            "/api/v2/pods",
            "/api/v1/pods/web-1",
            "/api/v1/namespaces/shop/nodes",
            "/api/v1/unknown",
            "/apis/apps/v1/namespaces/shop/deployments/web/scale/more",
            "/openapi/v1",
        ] {
            assert_eq!(Route::parse(path, &Catalogue::default()).expect_err(path).code, 404, "{path}");
        }
    }
}
