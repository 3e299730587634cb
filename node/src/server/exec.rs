//! Connects a process in a container with the streams of whoever asked for it.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    io::{AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
    time::timeout,
};

use super::{
    fd,
    spdy::{frame, session},
    streams::{Outcome, Sizes, Streams, Wanted},
    upgrade,
};
use crate::{agent::checks::full, runtime::ExecSession, sys};

/// The peer opens its streams within this time (upstream's limit).
const LONGEST_OPENING: Duration = Duration::from_secs(30);
/// After a process has ended, what it left in its pipes is waited for, but not its heirs.
const LONGEST_DRAIN: Duration = Duration::from_secs(2);

/// Gathers the streams of a remote command that a SPDY peer opens in one of its protocols.
///
/// # Errors
/// If a wanted stream isn't opened in time.
pub async fn gather(
    wanted: Wanted,
    protocol: &str,
    mut opened: mpsc::Receiver<session::Stream>,
) -> Result<Streams, String> {
    let mut names = vec!["error"];
    names.extend(wanted.stdin.then_some("stdin"));
    names.extend(wanted.stdout.then_some("stdout"));
    names.extend((wanted.stderr && !wanted.tty).then_some("stderr"));
    // Peers that speak an earlier version don't open it.
    names.extend((wanted.tty && matches!(protocol, upgrade::SPDY_V4 | upgrade::SPDY_V3)).then_some("resize"));
    let mut found: BTreeMap<String, DuplexStream> = BTreeMap::new();
    let gather = async {
        while found.len() < names.len() {
            let Some(stream) = opened.recv().await else { return Err("the connection ended".to_owned()) };
            let kind = frame::header(&stream.headers, "streamtype").unwrap_or_default().to_owned();
            if !names.contains(&kind.as_str()) {
                return Err(format!("unexpected stream type {kind:?}"));
            }
            found.insert(kind, stream.io);
        }
        Ok(())
    };
    let gathered = timeout(LONGEST_OPENING, gather).await;
    gathered.map_err(|_| "timed out waiting for client to create streams".to_owned())??;
    let error = found.remove("error").ok_or("no error stream")?;
    Ok(Streams {
        stdin: found.remove("stdin"),
        stdout: found.remove("stdout"),
        stderr: found.remove("stderr"),
        resize: found.remove("resize"),
        error,
        in_words: protocol != upgrade::SPDY_V4,
    })
}

/// Moves bytes between a process and its streams until it has ended, then tells how.
pub async fn connect(session: ExecSession, mut streams: Streams) {
    let ExecSession { stdin, stdout, stderr, terminal, exit } = session;
    let typing = streams.stdin.take().zip(stdin).map(|(source, target)| {
        tokio::spawn(async move {
            let mut source = source;
            if let Ok(mut target) = fd::input(target) {
                // Whichever side goes first ends it.
                tokio::io::copy(&mut source, &mut target).await.ok();
            }
        })
    });
    let resizing = streams.resize.take().zip(terminal).map(|(source, terminal)| {
        tokio::spawn(async move {
            let mut sizes = Sizes::new(source);
            while let Some(size) = sizes.next().await {
                if let Err(error) = sys::resize(std::os::fd::AsFd::as_fd(&terminal), size.rows, size.columns) {
                    tracing::debug!(%error, "a terminal was not resized");
                }
            }
        })
    });
    let showing = futures::future::join(show(stdout, streams.stdout.take()), show(stderr, streams.stderr.take()));
    tokio::pin!(showing);
    let mut shown = false;
    tokio::pin!(exit);
    let outcome = loop {
        tokio::select! {
            ended = &mut exit => break match ended {
                Ok(exit) => Outcome::Exited(exit.code),
                Err(error) => Outcome::Failed(full(&error)),
            },
            _ = &mut showing, if !shown => shown = true,
        }
    };
    if !shown && timeout(LONGEST_DRAIN, showing).await.is_err() {
        tracing::debug!("what the ended process left behind still writes; nobody listens any more");
    }
    for task in [typing, resizing].into_iter().flatten() {
        task.abort();
    }
    streams.finish(&outcome).await;
}

async fn show(source: Option<std::os::fd::OwnedFd>, target: Option<DuplexStream>) {
    let Some(source) = source.and_then(|source| fd::Output::new(source).ok()) else { return };
    let mut source = source;
    match target {
        Some(mut target) => {
            // A caller that has gone must not stop the process: the rest is read and passed over.
            if tokio::io::copy(&mut source, &mut target).await.is_err() {
                tokio::io::copy(&mut source, &mut tokio::io::sink()).await.ok();
            }
            target.shutdown().await.ok();
        }
        None => {
            tokio::io::copy(&mut source, &mut tokio::io::sink()).await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a peer that opens these streams gets.
    async fn gathered(protocol: &str, kinds: &[&str]) -> Result<Streams, String> {
        let (open, opened) = mpsc::channel(kinds.len());
        for kind in kinds {
            let headers = vec![("streamtype".to_owned(), (*kind).to_owned())];
            let (io, _) = tokio::io::duplex(64);
            open.send(session::Stream { id: 1, headers, io }).await.unwrap();
        }
        drop(open);
        gather(Wanted { stdout: true, tty: true, ..Wanted::default() }, protocol, opened).await
    }

    #[tokio::test]
    async fn streams_and_the_telling_of_the_end_are_those_of_the_version() {
        for (protocol, resizes, in_words) in
            [("v4.channel.k8s.io", true, false), ("v3.channel.k8s.io", true, true), ("v2.channel.k8s.io", false, true)]
        {
            let all = ["error", "stdout", "resize"];
            let kinds = if resizes { &all[..] } else { &all[..2] };
            let streams = gathered(protocol, kinds).await.unwrap();
            assert_eq!((streams.resize.is_some(), streams.in_words), (resizes, in_words), "{protocol}");
        }
        assert!(gathered("v4.channel.k8s.io", &["error", "stdout"]).await.is_err());
        assert!(gathered("channel.k8s.io", &["error", "stdin"]).await.is_err());
    }
}
