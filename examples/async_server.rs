//! A server in a tokio runtime: one task for each client, none of which waits for another. A task adds up what its client
//! sends, and answers with the sum.
//!
//! `cargo run --release --features tokio --example async_server` starts all processes.

use std::env;
use std::error::Error;
use std::process::Command;
use std::time::Duration;

use capnproto_shm_transport::{Channel, Config, RecvError, Server};

/// The server sends sums and receives numbers.
type Sums = Channel<u64, u32>;
/// The client's side of it.
type Numbers = Channel<u32, u64>;

const CLIENTS: usize = 10;
const NUMBERS: u32 = 1000;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => runtime.block_on(server(&format!("async-server-{}", std::process::id()))),
        ["client", name] => runtime.block_on(client(name)),
        _ => Err("usage: async_server (it starts its clients itself)".into()),
    }
}

async fn client(name: &str) -> Result<(), Box<dyn Error>> {
    let mut channel = Numbers::connect_async(name, PATIENCE, &Config::new()).await?;
    for number in 1..=NUMBERS {
        channel.send_async(&number).await?;
        let sum = channel.recv_copied_async().await?;
        if sum != u64::from(number) * u64::from(number + 1) / 2 {
            return Err(format!("{sum} is not the sum of the numbers up to {number}").into());
        }
    }
    Ok(())
}

async fn server(name: &str) -> Result<(), Box<dyn Error>> {
    let mut server = Server::<Sums>::bind(name, &Config::new().slot_count(16))?;
    let start = |_| Command::new(env::current_exe()?).args(["client", name]).spawn();
    let children = (0..CLIENTS).map(start).collect::<Result<Vec<_>, _>>()?;

    let mut tasks = Vec::new();
    while tasks.len() < CLIENTS {
        let channel = tokio::time::timeout(PATIENCE, server.accept_async()).await??;
        tasks.push(tokio::spawn(serve(channel)));
    }
    let mut numbers = 0;
    for task in tasks {
        numbers += task.await??;
    }
    for mut child in children {
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("a client failed: {status}").into());
        }
    }
    println!("{numbers} numbers of {CLIENTS} clients added up");
    Ok(())
}

/// One client's task, until the client leaves. Returns how many numbers it sent.
async fn serve(mut channel: Sums) -> Result<u64, String> {
    let (mut sum, mut numbers) = (0, 0);
    loop {
        match channel.recv_copied_async().await {
            Ok(number) => sum += u64::from(number),
            Err(RecvError::Closed) => return Ok(numbers),
            Err(error) => return Err(error.to_string()),
        }
        numbers += 1;
        channel.send_async(&sum).await.map_err(|error| error.to_string())?;
    }
}
