//! The volumes of containers that run for real: directories of the pod's state, filled from the
//! API, or of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, Pod, SecretProjection,
    Volume, VolumeProjection,
};

use crate::environment::{Source, Sources, field};
use crate::program::Mount;

/// The permissions of a file that a volume says nothing about (core/v1 `defaultMode`).
const MODE: i32 = 0o644;

/// Makes and fills the volumes that a container mounts; says where each goes.
pub async fn prepare(
    client: &kube::Client,
    pod: &Pod,
    container: &Container,
    dir: &Path,
) -> Result<Vec<Mount>, String> {
    let volumes: BTreeMap<&str, &Volume> =
        pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).map(|it| (it.name.as_str(), it)).collect();
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let name = mount.name.as_str();
        let volume = volumes.get(name).ok_or_else(|| format!("volumeMount {name:?}: the pod has no such volume"))?;
        let (root, read_only) = match materialise(client, pod, volume, dir).await? {
            Made::ReadOnly(path) => (path, true),
            Made::Writable(path) => (path, mount.read_only == Some(true)),
        };
        let sub_path = mount.sub_path.as_deref().unwrap_or_default();
        if Path::new(sub_path).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(format!("volumeMount {name:?}: subPath {sub_path:?} leads out of the volume"));
        }
        let from = root.join(sub_path);
        if !from.exists() {
            failed(name, std::fs::create_dir_all(&from))?;
        }
        mounts.push(Mount { at: mount.mount_path.as_str().into(), from, read_only });
    }
    Ok(mounts)
}

enum Made {
    Writable(PathBuf),
    ReadOnly(PathBuf),
}

async fn materialise(client: &kube::Client, pod: &Pod, volume: &Volume, dir: &Path) -> Result<Made, String> {
    let name = volume.name.as_str();
    if let Some(host) = &volume.host_path {
        return host_path(name, host).map(Made::Writable);
    }
    let at = dir.join("volumes").join(name);
    failed(name, std::fs::create_dir_all(&at))?;
    if volume.empty_dir.is_some() {
        failed(name, std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o777)))?;
        return Ok(Made::Writable(at));
    }
    let (parts, mode) = parts(volume)?;
    let wanted: BTreeSet<Source> = parts.iter().filter_map(Part::source).collect();
    let sources = Sources::fetch_all(client, pod, wanted).await;
    for part in &parts {
        let files = part.files(pod, &sources).map_err(|why| format!("MountVolume.SetUp failed for volume {name:?}: {why}"))?;
        for (path, content, own_mode) in files {
            let path = at.join(path);
            failed(name, path.parent().map_or(Ok(()), std::fs::create_dir_all))?;
            failed(name, std::fs::write(&path, content))?;
            let mode = u32::try_from(own_mode.unwrap_or(mode)).unwrap_or(0);
            failed(name, std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)))?;
        }
    }
    Ok(Made::ReadOnly(at))
}

fn failed<T>(volume: &str, done: std::io::Result<T>) -> Result<T, String> {
    done.map_err(|error| format!("make volume {volume:?}: {error}"))
}

/// A path of this machine (core/v1 `HostPathVolumeSource`).
fn host_path(name: &str, host: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = PathBuf::from(&host.path);
    let is = |there: bool, what: &str| match there {
        true => Ok(()),
        false => Err(format!("hostPath type check failed for volume {name:?}: {} is not {what}", host.path)),
    };
    match host.type_.as_deref().unwrap_or_default() {
        "DirectoryOrCreate" => failed(name, std::fs::create_dir_all(&path))?,
        "FileOrCreate" => {
            failed(name, std::fs::File::options().create(true).append(true).open(&path))?;
        }
        "Directory" => is(path.is_dir(), "a directory")?,
        "File" => is(path.is_file(), "a file")?,
        _ => is(path.exists(), "there")?,
    }
    Ok(path)
}

/// What a volume is filled with.
#[derive(Debug)]
enum Part {
    Keys { source: Source, items: Vec<KeyToPath>, optional: bool },
    Downward(Vec<DownwardAPIVolumeFile>),
}

type File = (String, Vec<u8>, Option<i32>);

/// The parts of a volume, and the permissions of its files.
fn parts(volume: &Volume) -> Result<(Vec<Part>, i32), String> {
    if let Some(map) = &volume.config_map {
        let part = keys(Source::ConfigMap(map.name.clone()), &map.items, map.optional);
        return Ok((vec![part], map.default_mode.unwrap_or(MODE)));
    }
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.clone().unwrap_or_default();
        let part = keys(Source::Secret(name), &secret.items, secret.optional);
        return Ok((vec![part], secret.default_mode.unwrap_or(MODE)));
    }
    if let Some(downward) = &volume.downward_api {
        let files = downward.items.clone().unwrap_or_default();
        return Ok((vec![Part::Downward(files)], downward.default_mode.unwrap_or(MODE)));
    }
    if let Some(projected) = &volume.projected {
        let parts = projected.sources.iter().flatten().filter_map(projection).collect();
        return Ok((parts, projected.default_mode.unwrap_or(MODE)));
    }
    let name = &volume.name;
    Err(format!(
        "volume {name:?} is of a kind that a container on this machine cannot have: \
         emptyDir, hostPath, configMap, secret, downwardAPI and projected work"
    ))
}

/// A service account's token is left out: there is nobody here to sign one.
fn projection(from: &VolumeProjection) -> Option<Part> {
    if let Some(ConfigMapProjection { name, items, optional }) = &from.config_map {
        return Some(keys(Source::ConfigMap(name.clone()), items, *optional));
    }
    if let Some(SecretProjection { name, items, optional }) = &from.secret {
        return Some(keys(Source::Secret(name.clone()), items, *optional));
    }
    from.downward_api.as_ref().map(|it| Part::Downward(it.items.clone().unwrap_or_default()))
}

fn keys(source: Source, items: &Option<Vec<KeyToPath>>, optional: Option<bool>) -> Part {
    Part::Keys { source, items: items.clone().unwrap_or_default(), optional: optional == Some(true) }
}

impl Part {
    fn source(&self) -> Option<Source> {
        match self {
            Self::Keys { source, .. } => Some(source.clone()),
            Self::Downward(_) => None,
        }
    }

    fn files(&self, pod: &Pod, sources: &Sources) -> Result<Vec<File>, String> {
        let files: Vec<File> = match self {
            Self::Keys { source, items, optional } => match sources.values(source) {
                Err(_) if *optional => Vec::new(),
                Err(why) => return Err(why),
                Ok(values) if items.is_empty() => {
                    values.iter().map(|(key, value)| (key.clone(), value.clone(), None)).collect()
                }
                Ok(_) => {
                    let file = |item: &KeyToPath| {
                        Ok((item.path.clone(), sources.value(source, &item.key)?.to_vec(), item.mode))
                    };
                    items.iter().map(file).collect::<Result<_, String>>()?
                }
            },
            Self::Downward(items) => items
                .iter()
                .map(|item| {
                    let path = item.field_ref.as_ref().map(|field| field.field_path.as_str());
                    let value = path.and_then(|path| whole_map(pod, path).or_else(|| field(pod, path)));
                    (item.path.clone(), value.unwrap_or_default().into_bytes(), item.mode)
                })
                .collect(),
        };
        let leads_out = |path: &str| {
            Path::new(path).components().any(|part| !matches!(part, std::path::Component::Normal(_)))
        };
        match files.iter().find(|(path, ..)| leads_out(path)) {
            Some((path, ..)) => Err(format!("{path:?} leads out of the volume")),
            None => Ok(files),
        }
    }
}

/// All labels or annotations, one `key="value"` a line.
fn whole_map(pod: &Pod, path: &str) -> Option<String> {
    let map = match path {
        "metadata.labels" => pod.metadata.labels.as_ref(),
        "metadata.annotations" => pod.metadata.annotations.as_ref(),
        _ => return None,
    };
    Some(map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}\n")).collect())
}
