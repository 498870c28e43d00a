//! Sandboxes and stand-ins by themselves, in namespaces of their own. Needs root.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use kilter_model::Protocol;
use kilter_netns::NetNs;
use kilter_pods::sandbox::{Launch, Process, kill_strays, launch};
use kilter_pods::standin::{Authority, Behaviour, Failures, Identity, Port, StandIns, make_authority};
use kilter_testkit::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Some tests count this process's descriptors, so they run one at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn start(state: &Path) -> Process {
    let request = Launch {
        program: Path::new(env!("CARGO_BIN_EXE_kilter-pause")),
        state_dir: state,
        title: "shop/web",
        hostname: "web",
        host_network: false,
        sysctls: &[],
    };
    launch(request).expect("a sandbox (are you root?)")
}

fn inode(path: impl AsRef<Path>) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

#[tokio::test]
async fn a_sandbox_holds_namespaces_and_nothing_else_and_ends_when_told() {
    let _alone = ALONE.lock().await;
    let dir = TempDir::new("sandbox");
    // Something that must not be inherited: a descriptor without close-on-exec.
    let leak = std::fs::File::open("/dev/zero").unwrap();
    nix::fcntl::fcntl(&leak, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let process = start(dir.path());
    let pid = process.pid();
    for kind in ["net", "uts", "ipc", "pid"] {
        assert_ne!(inode(process.namespace(kind)), inode(format!("/proc/self/ns/{kind}")), "{kind}");
    }
    kilter_testkit::wait_until(std::time::Duration::from_secs(5), "pause closes what it inherited", || {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let open: BTreeSet<_> = open.map(|fd| std::fs::read_link(fd.path()).unwrap_or_default()).collect();
        open == BTreeSet::from(["/dev/null".into()])
    });
    let netns = NetNs::open(process.namespace("net")).unwrap();
    netns
        .run(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:80").unwrap();
            std::net::TcpStream::connect(listener.local_addr().unwrap()).expect("the loopback is up");
        })
        .unwrap();
    drop(netns);
    assert!(Process::adopt(pid, process.start_time()).unwrap().is_some());
    process.kill().await.unwrap();
    assert!(Process::adopt(pid, process.start_time()).unwrap().is_none());
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it was reaped");
    process.kill().await.expect("ending it twice is no error");
}

#[tokio::test]
async fn pause_ends_by_sigterm_and_is_seen_to_end() {
    let _alone = ALONE.lock().await;
    let dir = TempDir::new("sandbox");
    let process = start(dir.path());
    let pid = nix::unistd::Pid::from_raw(process.pid());
    kilter_testkit::wait_until(std::time::Duration::from_secs(5), "pause ends", || {
        // Told again: until it awaits signals, process 1 of a namespace is deaf to them.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    tokio::time::timeout(std::time::Duration::from_secs(5), process.ended()).await.expect("it ends");
}

#[tokio::test]
async fn strays_of_one_state_directory_are_ended_and_no_others() {
    let _alone = ALONE.lock().await;
    let (dir, other) = (TempDir::new("sandbox"), TempDir::new("sandbox"));
    let (known, stray, foreign) = (start(dir.path()), start(dir.path()), start(other.path()));
    kilter_testkit::wait_until(std::time::Duration::from_secs(5), "the stray is found", || {
        // A process has its command line a moment after it was started.
        kill_strays(dir.path(), &HashSet::from([known.pid()])).unwrap() == 1
    });
    stray.ended().await;
    for process in [known, foreign] {
        assert!(Process::adopt(process.pid(), process.start_time()).unwrap().is_some());
        process.kill().await.unwrap();
    }
}

#[tokio::test]
async fn sandboxes_that_have_ended_leave_nothing() {
    let _alone = ALONE.lock().await;
    let dir = TempDir::new("sandbox");
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    start(dir.path()).kill().await.unwrap();
    let before = descriptors();
    let all: Vec<Process> = (0..50).map(|_| start(dir.path())).collect();
    for process in all {
        process.kill().await.unwrap();
    }
    assert_eq!(descriptors(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stand_in_speaks_http_grpc_and_udp_and_closes_before_its_namespace_goes() {
    let _alone = ALONE.lock().await;
    let dir = TempDir::new("standin");
    let process = start(dir.path());
    let netns = process.namespace("net");
    let identity = Identity {
        uid: "u-1".into(),
        namespace: "shop".into(),
        name: "web".into(),
        node: "node-1".into(),
        addresses: vec!["127.0.0.1".parse().unwrap()],
    };
    let before = sockets();
    let (certificate, key) = make_authority().unwrap();
    let trusted = dir.path().join("stand-ins.crt");
    std::fs::write(&trusted, certificate).unwrap();
    let stand_ins = StandIns::new(Authority::new(&key).unwrap());
    let mut server = stand_ins.pod(identity, netns.clone(), Behaviour::default()).unwrap();
    let port = |protocol, number| Port { protocol, number, container: "c".into() };
    let wanted = BTreeSet::from([port(Protocol::Tcp, 80), port(Protocol::Udp, 80)]);
    let log = Arc::default();
    let failed = server.set_ports(&wanted, |_| Arc::clone(&log)).await.unwrap();
    assert!(failed.is_empty(), "{failed:?}");

    // curl is the independent witness of HTTP/1.1, HTTP/2 and gRPC's trailers.
    let answer = curl(&netns, &["-s", "--fail", "-H", "accept: application/json", "-d", "hello", "http://127.0.0.1/a?b"]).await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (&answer["pod"], &answer["path"], &answer["bodyBytes"]),
        (&"web".into(), &"/a?b".into(), &5.into())
    );
    // Verified, by the name that was asked for and by the pod's address.
    for url in ["https://127.0.0.1:80/", "https://web.shop:80/", "https://web.shop.svc.cluster.local:80/"] {
        let resolve = |name: &str| format!("{name}:80:127.0.0.1");
        let (short, long) = (resolve("web.shop"), resolve("web.shop.svc.cluster.local"));
        let known = ["--cacert", trusted.to_str().unwrap(), "--resolve", &short, "--resolve", &long];
        let secure = curl(&netns, &[&["-s", "--fail"], &known[..], &[url]].concat()).await;
        let said = "web in shop on node-1 (container c, a stand-in)\n";
        assert!(secure.starts_with(said), "TLS on the same port, {url}: {secure}");
    }
    let check = "printf '\\0\\0\\0\\0\\0' | curl -s -i --http2-prior-knowledge -H 'content-type: application/grpc' \
        -H 'te: trailers' --data-binary @- http://127.0.0.1/grpc.health.v1.Health/Check | od -c -A n | tr -d ' \\n'";
    let health = inside(&netns, "sh", &["-c", check]).await;
    assert!(health.contains("grpc-status:0") && health.contains("\\0\\0\\0\\0002\\b001"), "{health}");

    let reflect = "printf '\\0\\0\\0\\0\\3\\072\\001*' | curl -s -i --http2-prior-knowledge -H 'content-type: application/grpc' \
        -H 'te: trailers' --data-binary @- http://127.0.0.1/grpc.reflection.v1.ServerReflection/ServerReflectionInfo | strings";
    let services = inside(&netns, "sh", &["-c", reflect]).await;
    assert!(services.contains("grpc.health.v1.Health") && services.contains("grpc-status: 0"), "{services}");

    let heard = dir.path().join("heard");
    let watch = check.replace("-s -i", "-s -N --max-time 60").replace("/Check", "/Watch");
    let (watch, _) = watch.split_once("| od").unwrap();
    let watch = format!("{watch} | dd bs=1 count=14 status=none of={}", heard.display());
    let inside_netns = netns.clone();
    let watching = tokio::spawn(async move { inside(&inside_netns, "sh", &["-c", &watch]).await });
    kilter_testkit::wait_until(std::time::Duration::from_secs(20), "the first status", || {
        std::fs::read(&heard).is_ok_and(|heard| heard.len() == 7)
    });

    let (mut tcp, udp) = NetNs::open(&netns)
        .unwrap()
        .run(|| {
            let tcp = std::net::TcpStream::connect("127.0.0.1:80").unwrap();
            tcp.set_nonblocking(true).unwrap();
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            udp.connect("127.0.0.1:80").unwrap();
            udp.set_nonblocking(true).unwrap();
            (tcp, udp)
        })
        .map(|(tcp, udp)| {
            (tokio::net::TcpStream::from_std(tcp).unwrap(), tokio::net::UdpSocket::from_std(udp).unwrap())
        })
        .unwrap();
    tcp.write_all(b"KILTER-WHO 1\nKILTER-WHO 2\n").await.unwrap();
    let mut answer = [0; 32];
    tcp.read_exact(&mut answer[..]).await.unwrap();
    assert_eq!(&answer, b"KILTER-IS u-1 1\nKILTER-IS u-1 2\n");
    for (question, expected) in [("KILTER-WHO 7\n", "KILTER-IS u-1 7\n"), ("echo me", "echo me")] {
        udp.send(question.as_bytes()).await.unwrap();
        let mut answer = [0; 64];
        let length = udp.recv(&mut answer).await.unwrap();
        assert_eq!(std::str::from_utf8(&answer[..length]).unwrap(), expected);
    }
    let failures = Failures { http: true, grpc: true, ..Failures::default() };
    server.set_behaviour(Behaviour { failures, ..Behaviour::default() });
    let code = curl(&netns, &["-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1/"]).await;
    assert_eq!(code, "503");
    let health = inside(&netns, "sh", &["-c", check]).await;
    assert!(health.contains("\\0\\0\\0\\0002\\b002"), "{health}");
    let told = |status| [0, 0, 0, 0, 2, 0x08, status];
    kilter_testkit::wait_until(std::time::Duration::from_secs(20), "how it was, and what it became", || {
        std::fs::read(&heard).unwrap() == [told(1), told(2)].concat()
    });

    // An open connection does not hold up the end, nor outlive it.
    server.close().await;
    watching.await.unwrap();
    assert_eq!(tcp.read(&mut answer).await.unwrap_or(0), 0);
    drop((tcp, udp));
    assert_eq!(sockets(), before, "no socket of the pod is left");
    process.kill().await.unwrap();
}

/// How many sockets this process has open.
fn sockets() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let inet =
        |path: &Path| std::fs::read_link(path).unwrap_or_default().to_string_lossy().starts_with("socket:");
    descriptors.filter(|fd| inet(&fd.path())).count()
}

async fn curl(netns: &Path, arguments: &[&str]) -> String {
    inside(netns, "curl", arguments).await
}

/// Runs a program in a network namespace.
async fn inside(netns: &Path, program: &str, arguments: &[&str]) -> String {
    let (netns, program) = (netns.to_owned(), program.to_owned());
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run =
        move || NetNs::open(&netns).unwrap().run(|| Command::new(program).args(arguments).output().unwrap());
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
