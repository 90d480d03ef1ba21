//! Cap'n Proto RPC: an echo call between two processes, over a channel and over a Unix socket (capnp-rpc's twoparty), and
//! over a pipe in memory with both ends in one thread, which is capnp-rpc's own work.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use capnproto_shm_transport::capnp::message::ReaderOptions;
use capnproto_shm_transport::capnp_rpc::rpc_twoparty_capnp::Side;
use capnproto_shm_transport::capnp_rpc::{self, RpcSystem, twoparty};
use capnproto_shm_transport::{Config, Transport, capnp, rpc};
use schemas::workshop_capnp::workshop;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{LocalSet, spawn_local};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use crate::clock::monotonic;
use crate::pair::JOINED;
use crate::peers::PATIENCE;
use crate::place::Place;
use crate::process::{self, Control, Killed};
use crate::sample::median;

/// What the calls go over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Over {
    Channel,
    Socket,
    /// Both ends in one thread.
    Memory,
}

/// Medians of the rounds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Calls {
    /// One call after the other, p50.
    pub busy_ns: f64,
    /// A call each millisecond, p50.
    pub seldom_ns: f64,
    /// Calls a second, 64 in flight.
    pub rate: f64,
    /// A payload of 1 MiB there and back, p50.
    pub large_ns: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rpc {
    pub channel: Calls,
    pub socket: Calls,
    pub memory: Calls,
}

const IN_FLIGHT: usize = 64;

struct Echo;

impl workshop::Server for Echo {
    async fn echo(
        self: Rc<Self>,
        params: workshop::EchoParams,
        mut results: workshop::EchoResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_payload(params.get()?.get_payload()?);
        Ok(())
    }
}

/// What a round does.
#[derive(Clone, Copy)]
struct Work {
    calls: usize,
    seldom: usize,
    flights: usize,
    large: usize,
}

/// Interleaves the contenders.
pub fn measure(rounds: usize, round: Duration) -> Result<Rpc> {
    let millis = round.as_millis() as usize;
    let work = Work { calls: millis * 20, seldom: millis * 2, flights: millis * 200, large: millis / 2 };
    Place::Apart.pin_leader()?;
    let name = format!("peers-{}-rpc", std::process::id());
    run(async {
        let mut contenders = Vec::new();
        for over in [Over::Channel, Over::Socket, Over::Memory] {
            contenders.push((over, Client::start(over, &name).await?, Vec::new()));
        }
        for _ in 0..rounds {
            for (_, client, samples) in &mut contenders {
                samples.push(client.round(work).await?);
            }
        }
        let of = |which: Over| {
            let samples = &contenders.iter().find(|(over, ..)| *over == which).expect("it is there").2;
            let median = |of: fn(&Calls) -> f64| median(samples.iter().map(of));
            Calls {
                busy_ns: median(|c| c.busy_ns),
                seldom_ns: median(|c| c.seldom_ns),
                rate: median(|c| c.rate),
                large_ns: median(|c| c.large_ns),
            }
        };
        Ok(Rpc { channel: of(Over::Channel), socket: of(Over::Socket), memory: of(Over::Memory) })
    })
}

/// Runs on a thread's own tokio.
fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

struct Client {
    workshop: workshop::Client,
    _control: Option<(Control, Killed)>,
}

impl Client {
    async fn start(over: Over, name: &str) -> Result<Self> {
        let (workshop, control) = match over {
            Over::Channel => {
                let transport = Transport::create(name, &Config::new())?;
                let (control, child) = process::start(&["rpc", "channel", name])?;
                Place::Apart.pin_leader()?;
                let (workshop, system) = rpc::client(transport);
                spawn_local(system);
                (workshop, Some((control, child)))
            }
            Over::Socket => {
                let path = format!("/dev/shm/{name}.socket");
                let listener = UnixListener::bind(&path)?;
                let (control, child) = process::start(&["rpc", "socket", &path])?;
                Place::Apart.pin_leader()?;
                let socket = listener.accept().await?.0;
                std::fs::remove_file(&path)?;
                (client(socket), Some((control, child)))
            }
            Over::Memory => {
                let (ours, theirs) = tokio::io::duplex(1 << 20);
                spawn_local(server(theirs));
                (client(ours), None)
            }
        };
        let control = match control {
            Some((mut control, child)) => {
                control.expect(JOINED)?;
                Some((control, Killed(child)))
            }
            None => None,
        };
        Ok(Self { workshop, _control: control })
    }

    async fn round(&mut self, work: Work) -> Result<Calls> {
        let small = vec![1; 8];
        self.calls(work.calls / 10, &small, None).await?;
        let busy_ns = self.calls(work.calls, &small, None).await?;
        let seldom_ns = self.calls(work.seldom, &small, Some(Duration::from_millis(1))).await?;
        let rate = self.flights(work.flights).await?;
        let large = vec![1; 1 << 20];
        self.calls(2, &large, None).await?;
        let large_ns = self.calls(work.large, &large, None).await?;
        Ok(Calls { busy_ns, seldom_ns, rate, large_ns })
    }

    /// The median of so many calls, each `pause` after the one before.
    async fn calls(&mut self, count: usize, payload: &[u8], pause: Option<Duration>) -> Result<f64> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let began = monotonic();
            call(&self.workshop, payload).await?;
            times.push((monotonic() - began) as f64);
        }
        Ok(median(times.into_iter()))
    }

    async fn flights(&mut self, count: usize) -> Result<f64> {
        let failed = Rc::new(RefCell::new(None));
        let began = monotonic();
        let tasks: Vec<_> = (0..IN_FLIGHT)
            .map(|_| {
                let (workshop, failed) = (self.workshop.clone(), Rc::clone(&failed));
                spawn_local(async move {
                    for _ in 0..count / IN_FLIGHT {
                        if let Err(error) = call(&workshop, &[1; 8]).await {
                            *failed.borrow_mut() = Some(error);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await?;
        }
        if let Some(error) = failed.take() {
            return Err(error);
        }
        Ok((count / IN_FLIGHT * IN_FLIGHT) as f64 * 1e9 / (monotonic() - began) as f64)
    }
}

async fn call(workshop: &workshop::Client, payload: &[u8]) -> Result<()> {
    let mut request = workshop.echo_request();
    request.get().set_payload(payload);
    let answer = request.send().promise.await?;
    let back = answer.get()?.get_payload()?;
    ensure!(back.len() == payload.len() && back.last() == payload.last(), "the payload is damaged");
    Ok(())
}

fn network<S: AsyncRead + AsyncWrite + 'static>(
    socket: S,
    side: Side,
) -> Box<twoparty::VatNetwork<impl futures_io::AsyncRead + Unpin>> {
    let (read, write) = tokio::io::split(socket);
    Box::new(twoparty::VatNetwork::new(
        futures_util::io::BufReader::new(read.compat()),
        futures_util::io::BufWriter::new(write.compat_write()),
        side,
        ReaderOptions::new(),
    ))
}

fn client<S: AsyncRead + AsyncWrite + 'static>(socket: S) -> workshop::Client {
    let mut system = RpcSystem::new(network(socket, Side::Client), None);
    let workshop = system.bootstrap(Side::Server);
    spawn_local(system);
    workshop
}

fn echo() -> workshop::Client {
    capnp_rpc::new_client(Echo)
}

fn server<S: AsyncRead + AsyncWrite + 'static>(socket: S) -> RpcSystem<Side> {
    RpcSystem::new(network(socket, Side::Server), Some(echo().client))
}

/// The life of the process that serves.
pub fn follow(over: &str, name: &str) -> Result<()> {
    let mut control = Control::inherited()?;
    Place::Apart.pin_follower()?;
    run(async {
        let system = match over {
            "channel" => rpc::serve_on(Transport::open(name, PATIENCE)?, echo()),
            "socket" => server(UnixStream::connect(name).await.context("connect")?),
            _ => return Err(anyhow!("RPC over {over} is not known")),
        };
        control.say(JOINED)?;
        Ok(system.await?)
    })
}
