//! Tasks in two processes, under smol: one asks, one hears the answers, and in the other process one answers.
//!
//! `cargo run --release --features async --example async_smol` starts both processes. A ring that is full holds up the
//! task that sends, and no other: the thread goes on with tasks that have something to do.

use std::env;
use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Channel, Config, Receiver, RecvError, Sender};
use smol::LocalExecutor;
use smol::stream::StreamExt;

const CALLS: u64 = 100_000;
const PATIENCE: Duration = Duration::from_secs(5);

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => caller(&format!("smol-{}", std::process::id())),
        ["answer", name] => smol::block_on(answer(name)),
        _ => Err("usage: async_smol (it starts its second process itself)".into()),
    }
}

/// Side A: two tasks of one thread, each with a half of the channel.
fn caller(name: &str) -> Result {
    let mut channel = Channel::<u64>::create(name, &Config::new().slot_count(64))?;
    let mut child = Command::new(env::current_exe()?).args(["answer", name]).spawn()?;
    channel.wait_for_peer(PATIENCE)?;
    let (questions, answers) = channel.split();

    let began = Instant::now();
    let executor = LocalExecutor::new();
    let asking = executor.spawn(ask(questions));
    let hearing = executor.spawn(hear(answers));
    let sum = smol::block_on(executor.run(async {
        asking.await?;
        hearing.await
    }))?;
    println!(
        "{CALLS} numbers there and their squares back, {} ns each",
        began.elapsed().as_nanos() as u64 / CALLS
    );
    println!("the sum of the squares is {sum}");

    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the other process failed: {status}").into()) }
}

/// Dropping the sending half says that there are no more questions.
async fn ask(mut questions: Sender<u64>) -> Result {
    for number in 1..=CALLS {
        questions.send_async(&number).await?;
    }
    Ok(())
}

/// Until the stream ends, which the other process has closed by then.
async fn hear(answers: Receiver<u64>) -> Result<u64> {
    let (heard, sum) = answers
        .into_stream()
        .try_fold((0, 0), |(heard, sum), square| Ok::<_, RecvError>((heard + 1, sum + square)))
        .await?;
    if heard == CALLS { Ok(sum) } else { Err(format!("{heard} answers to {CALLS} questions").into()) }
}

/// Side B, until side A asks no more.
async fn answer(name: &str) -> Result {
    let (mut answers, mut questions) = Channel::<u64>::open(name, PATIENCE)?.split();
    loop {
        match questions.recv_async().await {
            // Both futures may wait, for a question and for room: meanwhile the thread sleeps.
            Ok(number) => answers.send_async(&(*number * *number)).await?,
            Err(RecvError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
