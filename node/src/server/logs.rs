//! Reads the log files of containers: the format of the container runtime interface, tails, and following.

use std::{
    io::{self, SeekFrom},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use jiff::Timestamp;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::mpsc,
};

/// How much is read at once.
const CHUNK: usize = 64 << 10;
/// A line longer than this is passed on in parts (the runtime cuts at 16 KiB, others' files may not).
const LONGEST_LINE: usize = 1 << 20;
/// How long a follower waits before it looks for more.
const POLL: Duration = Duration::from_millis(200);

/// What of a log is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether to wait for more at the end.
    pub follow: bool,
    /// Only this many lines before the end.
    pub tail: Option<u64>,
    /// Only what was written at or after this time.
    pub since: Option<Timestamp>,
    /// Whether each line begins with its time.
    pub timestamps: bool,
    /// At most this many bytes.
    pub limit_bytes: Option<u64>,
    /// Only one of the two outputs.
    pub stream: Option<Output>,
}

/// One of a container's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One entry of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it was written, as the file says it.
    pub time: &'a str,
    /// To which output.
    pub output: Output,
    /// Whether its line ends with it.
    pub full: bool,
    /// What was written, without the line's end.
    pub text: &'a [u8],
}

/// Reads one line of a log file: `<time> <stdout|stderr> <P|F> <text>`.
#[must_use]
pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok().filter(|time| !time.is_empty())?;
    let output = match parts.next()? {
        b"stdout" => Output::Stdout,
        b"stderr" => Output::Stderr,
        _ => return None,
    };
    let full = match parts.next()?.split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Entry { time, output, full, text: parts.next().unwrap_or_default() })
}

/// Appends what `line` shows under `options` to `out`; what isn't an entry is passed over.
pub fn show(line: &[u8], options: &Options, out: &mut BytesMut) {
    let Some(entry) = parse(line) else { return };
    if options.stream.is_some_and(|wanted| wanted != entry.output) {
        return;
    }
    if let Some(since) = options.since
        && entry.time.parse::<Timestamp>().is_ok_and(|time| time < since)
    {
        return;
    }
    if options.timestamps {
        out.extend_from_slice(entry.time.as_bytes());
        out.extend_from_slice(b" ");
    }
    out.extend_from_slice(entry.text);
    if entry.full {
        out.extend_from_slice(b"\n");
    }
}

/// Asks whether a container has ended, so that nothing more will come.
pub type Ended = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// Sends what `options` ask for to `sender`, until the end, the limit, or until nobody listens.
///
/// # Errors
/// If the file can't be read.
pub async fn stream(path: &Path, options: Options, ended: Ended, sender: mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut file = File::from_std(open(path)?);
    let start = match options.tail {
        Some(lines) => tail_offset(&mut file, lines).await?,
        None => 0,
    };
    file.seek(SeekFrom::Start(start)).await?;
    let mut lines = Lines { options, pending: BytesMut::new(), left: options.limit_bytes };
    loop {
        // Asked before reading: what was written before the end is read after it.
        let last = !options.follow || ended().await;
        loop {
            let Some(chunk) = read(&mut file).await? else { break };
            if !lines.take(&chunk, &sender).await {
                return Ok(());
            }
        }
        if let Some(next) = rotated(path, &file).await? {
            file = next;
            continue;
        }
        if last {
            lines.finish(&sender).await;
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = sender.closed() => return Ok(()),
        }
    }
}

struct Lines {
    options: Options,
    pending: BytesMut,
    left: Option<u64>,
}

impl Lines {
    /// Passes on whole lines; false if nothing more is wanted.
    async fn take(&mut self, chunk: &[u8], sender: &mpsc::Sender<Bytes>) -> bool {
        self.pending.extend_from_slice(chunk);
        let mut out = BytesMut::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line = self.pending.split_to(end + 1);
            show(line.strip_suffix(b"\n").unwrap_or(&line), &self.options, &mut out);
        }
        if self.pending.len() > LONGEST_LINE {
            let line = self.pending.split();
            show(&line, &self.options, &mut out);
        }
        self.send(out, sender).await
    }

    async fn finish(&mut self, sender: &mpsc::Sender<Bytes>) {
        let mut out = BytesMut::new();
        let rest = self.pending.split();
        if !rest.is_empty() {
            show(&rest, &self.options, &mut out);
        }
        self.send(out, sender).await;
    }

    async fn send(&mut self, mut out: BytesMut, sender: &mpsc::Sender<Bytes>) -> bool {
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left = left.saturating_sub(out.len() as u64);
        }
        if !out.is_empty() && sender.send(out.freeze()).await.is_err() {
            return false;
        }
        self.left != Some(0)
    }
}

/// Directories from a log up to the one that the agent made for the pod's shim.
const DEPTH: usize = 3;

/// Opens a log. It lies in directories of the pod: whoever breaks out of a container into the shim may put links and
/// pipes there, and must not have the agent read its own files, or other pods', for them.
fn open(path: &Path) -> io::Result<std::fs::File> {
    let strange = || io::Error::other(format!("{} is no log of a container", path.display()));
    let top = path.ancestors().nth(DEPTH).ok_or_else(strange)?;
    let below = path.strip_prefix(top).map_err(|_| strange())?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let raw = openat2(std::fs::File::open(top)?.as_raw_fd(), below, how)?;
    let file = std::fs::File::from(crate::sys::inherited_fd(raw)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(strange()) }
}

async fn read(file: &mut File) -> io::Result<Option<Bytes>> {
    let mut chunk = BytesMut::with_capacity(CHUNK);
    let count = file.read_buf(&mut chunk).await?;
    Ok((count > 0).then(|| chunk.freeze()))
}

/// The new file, if the log was rotated.
async fn rotated(path: &Path, file: &File) -> io::Result<Option<File>> {
    let own = file.metadata().await?;
    match tokio::fs::metadata(path).await {
        Ok(now) if now.ino() != own.ino() || now.dev() != own.dev() => Ok(Some(File::from_std(open(path)?))),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(None),
    }
}

/// Where the last `lines` lines begin.
async fn tail_offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(end);
    }
    let mut found = 0;
    let mut at = end;
    let mut buffer = vec![0; CHUNK];
    while at > 0 {
        let size = at.min(CHUNK as u64);
        at -= size;
        file.seek(SeekFrom::Start(at)).await?;
        let part = buffer.get_mut(..usize::try_from(size).unwrap_or(CHUNK)).unwrap_or_default();
        file.read_exact(part).await?;
        for (index, _) in part.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = at + index as u64 + 1;
            // The end of the last line begins no line.
            if after == end {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(after);
            }
        }
    }
    Ok(0)
}

/// The last lines of a log as one text, for a container that failed and left no message.
#[must_use]
pub fn last_words(path: &Path, most_lines: usize, most_bytes: usize) -> String {
    let Ok(content) = read_end(path, (most_bytes * 4 + CHUNK) as u64) else { return String::new() };
    let mut out = BytesMut::new();
    let lines: Vec<&[u8]> = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let skipped = lines.len().saturating_sub(most_lines);
    for line in lines.into_iter().skip(skipped) {
        show(line, &Options::default(), &mut out);
    }
    let skipped = out.len().saturating_sub(most_bytes);
    String::from_utf8_lossy(out.get(skipped..).unwrap_or_default()).into_owned()
}

fn read_end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    use io::{Read as _, Seek as _};
    let mut file = open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
    let mut content = Vec::new();
    file.take(most).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use proptest::prelude::*;

    use super::*;

    fn line(second: u32, text: &str) -> String {
        format!("2026-01-01T00:00:{second:02}.000000001Z stdout F {text}\n")
    }

    async fn all(path: &Path, options: Options) -> String {
        let (sender, mut receiver) = mpsc::channel(1000);
        stream(path, options, Box::new(|| Box::pin(async { true })), sender).await.unwrap();
        let mut out = Vec::new();
        while let Some(part) = receiver.recv().await {
            out.extend_from_slice(&part);
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn tails_times_and_limits_are_those_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let content: String = (0..10).map(|second| line(second, &format!("line {second}"))).collect();
        std::fs::write(&path, content).unwrap();
        let base = Options::default();
        assert_eq!(all(&path, Options { tail: Some(2), ..base }).await, "line 8\nline 9\n");
        assert_eq!(all(&path, Options { tail: Some(0), ..base }).await, "");
        assert_eq!(all(&path, Options { tail: Some(99), ..base }).await.lines().count(), 10);
        let since = Some("2026-01-01T00:00:09Z".parse().unwrap());
        assert_eq!(all(&path, Options { since, ..base }).await, "line 9\n");
        assert_eq!(all(&path, Options { limit_bytes: Some(9), ..base }).await, "line 0\nli");
        let shown = all(&path, Options { tail: Some(1), timestamps: true, ..base }).await;
        assert_eq!(shown, "2026-01-01T00:00:09.000000001Z line 9\n");
    }

    #[tokio::test]
    async fn partial_lines_are_joined() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "2026-01-01T00:00:00Z stdout P ab\n2026-01-01T00:00:00Z stdout F cd\nrubbish\n").unwrap();
        assert_eq!(all(&path, Options::default()).await, "abcd\n");
    }

    #[tokio::test]
    async fn a_follower_sees_what_is_added_also_after_a_rotation_and_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, line(0, "old")).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (sender, mut receiver) = mpsc::channel(1);
        let (own, ended) = (path.clone(), Arc::clone(&over));
        let options = Options { follow: true, ..Options::default() };
        let task = tokio::spawn(async move {
            let ended: Ended = Box::new(move || {
                let ended = Arc::clone(&ended);
                Box::pin(async move { ended.load(Ordering::SeqCst) })
            });
            stream(&own, options, ended, sender).await
        });
        assert_eq!(receiver.recv().await.unwrap(), "old\n");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(line(1, "added").as_bytes()).unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "added\n");
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        std::fs::write(&path, line(2, "new file")).unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "new file\n");
        over.store(true, Ordering::SeqCst);
        assert!(receiver.recv().await.is_none());
        task.await.unwrap().unwrap();
    }

    #[test]
    fn the_last_words_are_the_end_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, (0..9).map(|at| line(at, &format!("l{at}"))).collect::<String>()).unwrap();
        assert_eq!(last_words(&path, 2, 100), "l7\nl8\n");
        assert_eq!(last_words(&path, 2, 3), "l8\n");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = BytesMut::new();
            show(&line, &Options { since: Some(Timestamp::UNIX_EPOCH), timestamps: true, ..Options::default() }, &mut out);
            prop_assert!(out.len() <= line.len() + 2);
        }
    }

    #[test]
    fn what_a_pod_puts_in_place_of_a_log_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join("shim").join(path);
        std::fs::create_dir_all(at("logs/web")).unwrap();
        std::fs::write(dir.path().join("secret"), "2026-01-01T00:00:00Z stdout F s3cret\n").unwrap();
        std::fs::write(at("logs/web/0.log"), "2026-01-01T00:00:00Z stdout F said\n").unwrap();
        let words = |path: &str| last_words(&at(path), 10, 100);
        assert_eq!(words("logs/web/0.log"), "said\n");
        std::os::unix::fs::symlink("../../../secret", at("logs/web/1.log")).unwrap();
        std::os::unix::fs::symlink("web", at("logs/link")).unwrap();
        nix::unistd::mkfifo(&at("logs/web/2.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in ["logs/web/1.log", "logs/link/0.log", "logs/web/2.log", "logs/web", "logs/web/../../../secret"] {
            assert_eq!(words(path), "", "{path}");
        }
    }
}
