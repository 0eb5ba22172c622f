//! Plain HTTP on loopback, for comparing with other exporters on one machine; nothing that an installed agent does.

use crate::host::{Host, Options};
use crate::samples::Samples;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Longest head of a request.
const MOST_HEAD_BYTES: u64 = 16 * 1024;

/// Answers `GET` of any path with this machine's metrics, one connection at a time, for ever. Prints its address first.
pub fn serve(listen: SocketAddr, options: &Options) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    let mut host = Host::new(options);
    let mut samples = Samples::default();
    let mut text = String::new();
    for stream in listener.incoming() {
        if let Err(error) = answer(stream?, &mut host, &mut samples, &mut text) {
            tracing::debug!(%error, "connection broke off");
        }
    }
    Ok(())
}

fn answer(stream: TcpStream, host: &mut Host, samples: &mut Samples, text: &mut String) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        loop {
            line.clear();
            let count = reader.by_ref().take(MOST_HEAD_BYTES).read_line(&mut line)?;
            if count == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
        }
        host.collect(samples);
        text.clear();
        samples.write_text(text);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        writer.write_all(head.as_bytes())?;
        writer.write_all(text.as_bytes())?;
    }
}
