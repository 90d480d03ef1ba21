//! HTTP between two processes without a socket: hyper serves over a channel as it serves over TCP.
//!
//! `cargo run --release --features tokio --example http_over_shm` starts both processes. `into_io` makes a stream of
//! bytes of a channel, with tokio's `AsyncRead` and `AsyncWrite`. So whatever speaks over a socket speaks over shared
//! memory, and does not know.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, Transport};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;

const REQUESTS: u32 = 5_000;
const UPLOAD: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => client(&format!("http-{}", std::process::id())).await,
        ["server", name] => server(name).await,
        _ => Err("usage: http_over_shm (it starts its second process itself)".into()),
    }
}

/// Side B. A channel is one connection; it ends when the client closes it.
async fn server(name: &str) -> Result {
    let channel = Transport::open(name, PATIENCE)?.into_io();
    let connection = hyper::server::conn::http1::Builder::new();
    Ok(connection.serve_connection(TokioIo::new(channel), service_fn(answer)).await?)
}

async fn answer(request: Request<Incoming>) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/hello") => {
            (StatusCode::OK, format!("Hello from process {}. No socket was involved.\n", std::process::id()))
        }
        (&Method::POST, "/length") => match request.collect().await {
            Ok(body) => (StatusCode::OK, format!("{} bytes came\n", body.to_bytes().len())),
            Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        (_, path) => (StatusCode::NOT_FOUND, format!("there is no {path}\n")),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}

/// Side A.
async fn client(name: &str) -> Result {
    // A stream of bytes may have slots of any size.
    let mut channel = Transport::create(name, &Config::new().slot_size(4096).slot_count(64))?;
    let mut child = Command::new(env::current_exe()?).args(["server", name]).spawn()?;
    channel.wait_for_peer(PATIENCE)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(channel.into_io())).await?;
    let connection = tokio::spawn(connection);

    for (method, path, body) in [
        (Method::GET, "/hello", Bytes::new()),
        (Method::POST, "/length", vec![7; UPLOAD].into()),
        (Method::GET, "/nowhere", Bytes::new()),
    ] {
        println!("> {method} {path}");
        let (response, text) = ask(&mut sender, method, path, body).await?;
        println!("< {:?} {}", response.version(), response.status());
        for (name, value) in response.headers() {
            println!("< {name}: {}", value.to_str()?);
        }
        println!("{}", String::from_utf8_lossy(&text));
    }

    let began = Instant::now();
    for _ in 0..REQUESTS {
        let (response, _) = ask(&mut sender, Method::GET, "/hello", Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("the server answered {}", response.status()).into());
        }
    }
    println!(
        "{REQUESTS} requests one after the other, {} µs each",
        began.elapsed().as_micros() / u128::from(REQUESTS)
    );

    // The connection ends with its sender of requests, and takes the channel along.
    drop(sender);
    connection.await??;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the server failed: {status}").into()) }
}

async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(Response<()>, Bytes)> {
    let request =
        Request::builder().method(method).uri(path).header(header::HOST, "shm").body(Full::new(body))?;
    sender.ready().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok((Response::from_parts(head, ()), body.collect().await?.to_bytes()))
}
