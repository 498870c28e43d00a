use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::channel::{self, ERROR, Finish, Input, STDERR, STDOUT};
use super::terminal::Terminal;
use crate::program::{self, NotFound, Place, Program, Spawned, exit_code};

/// Bytes read from a program at once.
const CHUNK: usize = 32 << 10;
/// Frames waiting for the client, and for the program.
const WAITING: usize = 16;
/// How long output is awaited after the program has ended: something that it left running may hold
/// its pipes open for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// What shells say of a program that is not there.
const NOT_FOUND: i32 = 127;

/// Runs a program and carries its streams until it ends or the client goes away, which ends it.
pub(super) async fn run(socket: WebSocket, program: Program, place: Place) {
    let (mut sink, mut frames) = socket.split();
    let spawned = tokio::task::spawn_blocking(move || program::spawn(program, &place)).await;
    let spawned = spawned.unwrap_or_else(|panic| Err(panic.into()));
    let finish = match spawned.and_then(|spawned| Session::new(spawned)) {
        Ok(session) => match session.carry(&mut sink, &mut frames).await {
            Some(finish) => finish,
            None => return,
        },
        Err(error) => {
            if error.is::<NotFound>() {
                let line = format!("{error:#}\n");
                let _ = sink.send(Message::Binary(channel::encode(STDERR, line.as_bytes()))).await;
                Finish::Exited(NOT_FOUND)
            } else {
                Finish::Failed(format!("{error:#}"))
            }
        }
    };
    let status = channel::status(&finish).to_string();
    // The client may be gone: then nobody needs to know.
    let _ = sink.send(Message::Binary(channel::encode(ERROR, status.as_bytes()))).await;
    let normal = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    let _ = sink.send(Message::Close(Some(normal))).await;
    let _ = sink.flush().await;
}

/// A running program and its streams.
struct Session {
    child: Child,
    terminal: Option<Terminal>,
    stdin: Option<mpsc::Sender<Bytes>>,
    output: mpsc::Receiver<Bytes>,
    pumps: JoinSet<()>,
}

impl Session {
    fn new(spawned: Spawned) -> anyhow::Result<Self> {
        let Spawned { mut child, terminal } = spawned;
        let terminal = terminal.map(Terminal::new).transpose()?;
        let (to_client, output) = mpsc::channel(WAITING);
        let (stdin, typed) = mpsc::channel(WAITING);
        let mut pumps = JoinSet::new();
        if let Some(terminal) = &terminal {
            pumps.spawn(from_terminal(terminal.clone(), to_client.clone()));
            pumps.spawn(to_terminal(typed, terminal.clone()));
        } else {
            if let Some(stdout) = child.stdout.take() {
                pumps.spawn(pump(stdout, STDOUT, to_client.clone()));
            }
            if let Some(stderr) = child.stderr.take() {
                pumps.spawn(pump(stderr, STDERR, to_client.clone()));
            }
            if let Some(stdin) = child.stdin.take() {
                pumps.spawn(to_program(typed, stdin));
            }
        }
        Ok(Self { child, terminal, stdin: Some(stdin), output, pumps })
    }

    /// `None` when the client went away.
    async fn carry(
        mut self,
        sink: &mut (impl SinkExt<Message> + Unpin),
        frames: &mut (impl StreamExt<Item = Result<Message, axum::Error>> + Unpin),
    ) -> Option<Finish> {
        let mut typed: Option<Bytes> = None;
        loop {
            let stdin = self.stdin.clone();
            tokio::select! {
                Some(frame) = self.output.recv() => sink.send(Message::Binary(frame)).await.ok()?,
                frame = frames.next(), if typed.is_none() => match frame {
                    Some(Ok(Message::Binary(frame))) => typed = self.on_frame(&frame),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => {
                        self.end().await;
                        return None;
                    }
                    Some(Ok(_)) => {}
                },
                // A program that does not read its input holds up the client's next frame only.
                room = reserve(stdin), if typed.is_some() => match (room, typed.take()) {
                    (Some(room), Some(data)) => { room.send(data); }
                    _ => self.stdin = None,
                },
                ended = self.child.wait() => {
                    self.last_output(sink).await;
                    return Some(match ended {
                        Ok(status) => Finish::Exited(exit_code(status)),
                        Err(error) => Finish::Failed(format!("wait for the program: {error}")),
                    });
                }
            }
        }
    }

    /// What is to be typed, if the frame says so.
    fn on_frame(&mut self, frame: &Bytes) -> Option<Bytes> {
        match channel::decode(frame)? {
            Input::Stdin(data) => Some(data).filter(|data| !data.is_empty()),
            Input::StdinClosed => {
                self.stdin = None;
                None
            }
            Input::Resize(size) => {
                if let Some(terminal) = &self.terminal {
                    terminal.resize(size);
                }
                None
            }
        }
    }

    async fn last_output(&mut self, sink: &mut (impl SinkExt<Message> + Unpin)) {
        self.stdin = None;
        let rest = async {
            while let Some(frame) = self.output.recv().await {
                if sink.send(Message::Binary(frame)).await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LAST_OUTPUT, rest).await;
        self.pumps.abort_all();
    }

    /// Ends the program and what it started in its process group.
    async fn end(&mut self) {
        if let Some(group) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let group = nix::unistd::Pid::from_raw(group);
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.wait().await;
    }
}

async fn reserve(stdin: Option<mpsc::Sender<Bytes>>) -> Option<mpsc::OwnedPermit<Bytes>> {
    stdin?.reserve_owned().await.ok()
}

async fn pump(mut from: impl AsyncRead + Unpin, channel: u8, to: mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.send(channel::encode(channel, &buffer[..length])).await.is_err() {
            return;
        }
    }
}

async fn from_terminal(terminal: Terminal, to: mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = terminal.read(&mut buffer).await {
        if to.send(channel::encode(STDOUT, &buffer[..length])).await.is_err() {
            return;
        }
    }
}

async fn to_terminal(mut typed: mpsc::Receiver<Bytes>, terminal: Terminal) {
    while let Some(data) = typed.recv().await {
        if terminal.write_all(&data).await.is_err() {
            return;
        }
    }
    terminal.end_of_input().await;
}

async fn to_program(mut typed: mpsc::Receiver<Bytes>, mut stdin: ChildStdin) {
    while let Some(data) = typed.recv().await {
        if stdin.write_all(&data).await.is_err() {
            return;
        }
    }
}
