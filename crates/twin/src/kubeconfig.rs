//! The context in the kubeconfig of the person who called, also under sudo.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid, User, chown};
use serde_json::{Value, json};

/// The person who called: under sudo not root, but who typed it.
struct Caller {
    home: PathBuf,
    /// Owner for files made in their name; `None` when they are the one running.
    owner: Option<(Uid, Gid)>,
}

impl Caller {
    fn find() -> Result<Self> {
        if let Ok(uid) = std::env::var("SUDO_UID")
            && let Ok(uid) = uid.parse()
            && let Some(user) = User::from_uid(Uid::from_raw(uid))?
        {
            return Ok(Self { home: user.dir, owner: Some((user.uid, user.gid)) });
        }
        match std::env::var_os("HOME") {
            Some(home) => Ok(Self { home: home.into(), owner: None }),
            None => bail!("HOME is not set, so there is no kubeconfig to write to"),
        }
    }

    fn kubeconfig(&self) -> PathBuf {
        // kubectl writes to the first file that KUBECONFIG names.
        match std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty()) {
            Some(list) => std::env::split_paths(&list).next().unwrap_or_default(),
            None => self.home.join(".kube/config"),
        }
    }

    fn own(&self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.owner {
            chown(path, Some(uid), Some(gid)).with_context(|| format!("give {} to its user", path.display()))?;
        }
        Ok(())
    }
}

/// Adds cluster, user and context of a twin, all named `context`; returns the file written.
pub fn add_context(twin: &Path, context: &str, switch: bool) -> Result<PathBuf> {
    let caller = Caller::find()?;
    let path = caller.kubeconfig();
    let mut config = read(&path)?;
    let own = read(twin)?;
    for (list, key) in [("clusters", "cluster"), ("users", "user"), ("contexts", "context")] {
        let mut value = own[list][0][key].clone();
        if list == "contexts" {
            value["cluster"] = context.into();
            value["user"] = context.into();
        }
        put(&mut config, list, json!({"name": context, key: value}));
    }
    if switch {
        config["current-context"] = context.into();
    }
    write(&path, &config, &caller)?;
    Ok(path)
}

/// Takes a twin's context out again; a file that does not have it is left untouched.
pub fn remove_context(path: &Path, context: &str) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut config = read(path)?;
    let before = config.clone();
    for list in ["clusters", "users", "contexts"] {
        if let Some(entries) = config[list].as_array_mut() {
            entries.retain(|e| e["name"] != context);
        }
    }
    if config["current-context"] == context {
        config["current-context"] = "".into();
    }
    if config == before {
        return Ok(());
    }
    write(path, &config, &Caller::find()?)
}

fn read(path: &Path) -> Result<Value> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context(format!("read {}", path.display())),
    };
    let config: Value = match text.trim() {
        "" => Value::Null,
        text => serde_saphyr::from_str(text).with_context(|| format!("{} is not a kubeconfig", path.display()))?,
    };
    Ok(match config {
        Value::Null => json!({"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": [],
                              "current-context": "", "preferences": {}}),
        config => config,
    })
}

fn put(config: &mut Value, list: &str, entry: Value) {
    if !config[list].is_array() {
        config[list] = json!([]);
    }
    let entries = config[list].as_array_mut().expect("BUG: it was just made an array");
    entries.retain(|e| e["name"] != entry["name"]);
    entries.push(entry);
}

/// Written beside and renamed, so that a crash leaves the old file or the new one.
fn write(path: &Path, config: &Value, caller: &Caller) -> Result<()> {
    if let Some(parent) = path.parent()
        && !parent.exists()
    {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        caller.own(parent)?;
    }
    let text = serde_saphyr::to_string(config).context("write a kubeconfig")?;
    let beside = path.with_extension("kilter-new");
    fs::write(&beside, text).with_context(|| format!("write {}", beside.display()))?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))?;
    caller.own(&beside)?;
    fs::rename(&beside, path).with_context(|| format!("replace {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, config: &Value) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, serde_saphyr::to_string(config).unwrap()).unwrap();
        path
    }

    #[test]
    fn a_context_comes_and_goes_without_touching_its_neighbours() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = json!({"apiVersion": "v1", "kind": "Config", "current-context": "work",
            "clusters": [{"name": "work", "cluster": {"server": "https://work.example"}}],
            "users": [{"name": "me", "user": {"token": "t"}}],
            "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me"}}]});
        let twin = json!({"clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:1"}}],
            "users": [{"name": "x", "user": {"token": "s"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}]});
        let (path, twin) = (file(dir.path(), "config", &theirs), file(dir.path(), "twin", &twin));
        let caller = Caller { home: dir.path().into(), owner: None };

        let mut config = read(&path).unwrap();
        let own = read(&twin).unwrap();
        put(&mut config, "clusters", json!({"name": "kilter-shop", "cluster": own["clusters"][0]["cluster"]}));
        write(&path, &config, &caller).unwrap();
        assert_eq!(read(&path).unwrap()["clusters"].as_array().unwrap().len(), 2);

        remove_context(&path, "kilter-shop").unwrap();
        assert_eq!(read(&path).unwrap(), theirs);
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_an_error_and_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, "clusters: [").unwrap();
        assert!(remove_context(&path, "kilter-shop").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "clusters: [");
    }
}
