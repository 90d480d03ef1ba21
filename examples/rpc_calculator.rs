//! Cap'n Proto RPC over shared memory: a calculator in another process, asked for (1 + 2) * 3 in one round trip, and
//! then to work with a function that only the client has.
//!
//! `cargo run --release --example rpc_calculator --features rpc,tokio` starts both processes.

use std::error::Error;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use capnproto_shm_transport::capnp::{self, capability::get_resolved_cap};
use capnproto_shm_transport::{Config, Transport, capnp_rpc, rpc};
use schemas::calculator_capnp::calculator::{self, Operator, function, value};
use tokio::task::{LocalSet, spawn_local};

const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match std::env::args().nth(1) {
        None => LocalSet::new().block_on(&runtime, client()),
        Some(name) => LocalSet::new().block_on(&runtime, server(&name)),
    }
}

/// Side B: serves a calculator until the client goes.
async fn server(name: &str) -> Result<(), Box<dyn Error>> {
    let transport = Transport::open(name, PATIENCE)?;
    let calculator: calculator::Client = capnp_rpc::new_client(Calculator);
    Ok(rpc::serve_on(transport, calculator).await?)
}

/// Side A.
async fn client() -> Result<(), Box<dyn Error>> {
    let name = format!("rpc-calculator-{}", std::process::id());
    let transport = Transport::create(&name, &Config::new())?;
    let mut child = Command::new(std::env::current_exe()?).arg(&name).spawn()?;
    let (calculator, system) = rpc::client::<calculator::Client>(transport);
    let disconnector = system.get_disconnector();
    spawn_local(system);

    // Every call goes out at once: each takes the promised results of those before.
    let number = |value| {
        let mut request = calculator.number_request();
        request.get().set_value(value);
        request.send().pipeline.get_value()
    };
    let operator = |kind| {
        let mut request = calculator.operator_request();
        request.get().set_kind(kind);
        request.send().pipeline.get_function()
    };
    let sum = apply(&calculator, operator(Operator::Add), &[number(1.0), number(2.0)]);
    let product = apply(&calculator, operator(Operator::Multiply), &[sum.clone(), number(3.0)]);
    println!("(1 + 2) * 3 = {}", read(&product).await?);

    // The server calls back: the power is computed here.
    let power: function::Client = capnp_rpc::new_client(Power);
    let power = apply(&calculator, power, &[number(2.0), product]);
    println!("2 ^ ((1 + 2) * 3) = {}", read(&power).await?);

    // An exception arrives where its result is asked for.
    let nothing = apply(&calculator, operator(Operator::Divide), &[sum, number(0.0)]);
    match read(&nothing).await {
        Ok(value) => return Err(format!("3 / 0 is {value}").into()),
        Err(error) => println!("3 / 0: {error}"),
    }

    disconnector.await?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the server failed: {status}").into()) }
}

fn apply(calculator: &calculator::Client, function: function::Client, to: &[value::Client]) -> value::Client {
    let mut request = calculator.apply_request();
    request.get().set_function(function);
    let mut arguments = request.get().init_arguments(to.len() as u32);
    for (at, value) in (0..).zip(to) {
        arguments.set(at, value.client.hook.add_ref());
    }
    request.send().pipeline.get_value()
}

async fn read(value: &value::Client) -> Result<f64, capnp::Error> {
    Ok(value.read_request().send().promise.await?.get()?.get_value())
}

/// The server's object.
struct Calculator;

impl calculator::Server for Calculator {
    async fn number(
        self: Rc<Self>,
        params: calculator::NumberParams,
        mut results: calculator::NumberResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_value(capnp_rpc::new_client(Number(params.get()?.get_value())));
        Ok(())
    }

    async fn operator(
        self: Rc<Self>,
        params: calculator::OperatorParams,
        mut results: calculator::OperatorResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_function(capnp_rpc::new_client(Arithmetic(params.get()?.get_kind()?)));
        Ok(())
    }

    async fn apply(
        self: Rc<Self>,
        params: calculator::ApplyParams,
        mut results: calculator::ApplyResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let mut request = params.get_function()?.call_request();
        let values = params.get_arguments()?;
        let mut arguments = request.get().init_arguments(values.len());
        for at in 0..values.len() {
            // Those that are not known yet are waited for.
            arguments.set(at, read(&get_resolved_cap(values.get(at)?).await).await?);
        }
        let answer = request.send().promise.await?;
        results.get().set_value(capnp_rpc::new_client(Number(answer.get()?.get_value())));
        Ok(())
    }
}

struct Number(f64);

impl value::Server for Number {
    async fn read(
        self: Rc<Self>,
        _: value::ReadParams,
        mut results: value::ReadResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_value(self.0);
        Ok(())
    }
}

struct Arithmetic(Operator);

impl function::Server for Arithmetic {
    async fn call(
        self: Rc<Self>,
        params: function::CallParams,
        mut results: function::CallResults,
    ) -> Result<(), capnp::Error> {
        let arguments = params.get()?.get_arguments()?;
        let [a, b] = two(arguments)?;
        results.get().set_value(match self.0 {
            Operator::Add => a + b,
            Operator::Subtract => a - b,
            Operator::Multiply => a * b,
            Operator::Divide if b == 0.0 => return Err(capnp::Error::failed("division by zero".to_owned())),
            Operator::Divide => a / b,
        });
        Ok(())
    }
}

/// An object that only the client has.
struct Power;

impl function::Server for Power {
    async fn call(
        self: Rc<Self>,
        params: function::CallParams,
        mut results: function::CallResults,
    ) -> Result<(), capnp::Error> {
        let [base, exponent] = two(params.get()?.get_arguments()?)?;
        results.get().set_value(base.powf(exponent));
        Ok(())
    }
}

fn two(arguments: capnp::primitive_list::Reader<'_, f64>) -> Result<[f64; 2], capnp::Error> {
    match arguments.len() {
        2 => Ok([arguments.get(0), arguments.get(1)]),
        n => Err(capnp::Error::failed(format!("{n} arguments; this function takes 2"))),
    }
}
