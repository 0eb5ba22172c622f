//! From a blocking thread to the caller: a short answer whole, a long one in pieces while it is written, compressed if the caller can read that.

use std::io::{self, Write};

use actix_web::HttpResponse;
use actix_web::http::header;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use tokio::sync::{mpsc, oneshot};

use crate::http::ApiError;

/// Size of a piece; an answer up to it goes out whole.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for a slow caller; beyond, the writing thread waits.
const WAITING: usize = 8;
/// Shorter answers gain nothing from compression.
const MIN_COMPRESSED: usize = 8 * 1024;

enum Head {
    Whole(Vec<u8>),
    Pieces(mpsc::Receiver<Bytes>),
}

/// Runs `work` on a blocking thread; it writes the body that `work` makes, or answers its error.
pub async fn blocking<W>(gzip: bool, work: W) -> Result<HttpResponse, ApiError>
where
    W: FnOnce(&mut Body) -> Result<(), ApiError> + Send + 'static,
{
    let (head_sender, head) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let mut body = Body { buffer: Vec::with_capacity(4 * 1024), gzip, head: Some(head_sender), pieces: None };
        let outcome = work(&mut body);
        body.finish(outcome);
    });
    let head = head.await.map_err(|_| ApiError::unavailable("unavailable", "the server stops"))??;
    let mut response = HttpResponse::Ok();
    response.content_type("application/json").insert_header((header::VARY, "Accept-Encoding"));
    match head {
        Head::Whole(bytes) if gzip && bytes.len() >= MIN_COMPRESSED => {
            let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
            let packed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
            let packed = packed.map_err(|error| ApiError::internal(&error))?;
            Ok(response.insert_header((header::CONTENT_ENCODING, "gzip")).body(packed))
        }
        Head::Whole(bytes) => Ok(response.body(bytes)),
        Head::Pieces(pieces) => {
            if gzip {
                response.insert_header((header::CONTENT_ENCODING, "gzip"));
            }
            let pieces = stream::unfold(pieces, |mut pieces| async move {
                let piece = pieces.recv().await?;
                Some((Ok::<Bytes, io::Error>(piece), pieces))
            });
            Ok(response.streaming(pieces))
        }
    }
}

enum Pieces {
    Plain(PieceSender),
    Gzip(Box<GzEncoder<PieceSender>>),
}

/// What an answer is written into.
pub struct Body {
    buffer: Vec<u8>,
    gzip: bool,
    head: Option<oneshot::Sender<Result<Head, ApiError>>>,
    pieces: Option<Pieces>,
}

impl Body {
    /// Hands the full buffer on; begins with pieces if this is the first time.
    fn pass_on(&mut self) -> io::Result<()> {
        if self.pieces.is_none() {
            let (sender, receiver) = mpsc::channel(WAITING);
            let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
            self.head.take().ok_or_else(gone)?.send(Ok(Head::Pieces(receiver))).map_err(|_| gone())?;
            let sender = PieceSender(sender);
            self.pieces = Some(if self.gzip {
                Pieces::Gzip(Box::new(GzEncoder::new(sender, Compression::fast())))
            } else {
                Pieces::Plain(sender)
            });
        }
        match &mut self.pieces {
            Some(Pieces::Plain(sender)) => sender.write_all(&self.buffer)?,
            Some(Pieces::Gzip(encoder)) => encoder.write_all(&self.buffer)?,
            None => {}
        }
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self, outcome: Result<(), ApiError>) {
        match (outcome, self.head.take()) {
            // The caller may be gone; then nobody hears it, which is right.
            (Err(error), Some(head)) => drop(head.send(Err(error))),
            (Ok(()), Some(head)) => drop(head.send(Ok(Head::Whole(self.buffer)))),
            // Pieces went out already: the rest follows, or the stream breaks off, which the caller sees as an incomplete body.
            (Ok(()), None) => {
                let rest = self.pass_on().and_then(|()| match self.pieces.take() {
                    Some(Pieces::Gzip(encoder)) => encoder.finish().map(drop),
                    _ => Ok(()),
                });
                drop(rest);
            }
            (Err(_), None) => {}
        }
    }
}

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.pass_on()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long a reader may take for one piece of an answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

struct PieceSender(mpsc::Sender<Bytes>);

impl Write for PieceSender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = self.0.send(Bytes::copy_from_slice(bytes));
        // On a thread that may block, of a runtime: a reader that stopped reading must not keep the thread and its permit.
        match tokio::runtime::Handle::current().block_on(tokio::time::timeout(PATIENCE, piece)) {
            Ok(Ok(())) => Ok(bytes.len()),
            Ok(Err(_)) => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
