//! Publish and subscribe by Cap'n Proto RPC over shared memory: a topic in one process, three subscribers in processes of
//! their own. Each piece of news is a call to the subscriber's own capability, with flow control; a subscriber that is
//! killed is forgotten.
//!
//! `cargo run --release --example rpc_pubsub --features rpc` starts all processes. It does without tokio.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::process::Command;
use std::rc::{Rc, Weak};
use std::time::Duration;

use capnproto_shm_transport::{Config, Transport, capnp, capnp_rpc, rpc};
use futures::executor::LocalPool;
use futures::future::join_all;
use futures::task::LocalSpawnExt;
use schemas::pubsub_capnp::topic::{self, subscriber, subscription};

const SUBSCRIBERS: usize = 3;
const NEWS: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        None => publisher(),
        Some(name) => subscriber(&name),
    }
}

/// Side A of a channel for each subscriber.
fn publisher() -> Result<(), Box<dyn Error>> {
    let topic = Rc::new(Topic::default());
    let mut pool = LocalPool::new();
    let mut children = Vec::new();
    let mut systems = Vec::new();
    for number in 0..SUBSCRIBERS {
        let name = format!("rpc-pubsub-{}-{number}", std::process::id());
        let transport = Transport::create(&name, &Config::new())?;
        children.push(Command::new(std::env::current_exe()?).arg(&name).spawn()?);
        let bootstrap: topic::Client = capnp_rpc::new_client_from_rc(Rc::clone(&topic));
        let system = rpc::serve_on(transport, bootstrap);
        let (served, ended) = futures::channel::oneshot::channel();
        pool.spawner().spawn_local(async {
            let _ = served.send(system.await);
        })?;
        systems.push(ended);
    }
    pool.run_until(async {
        topic.subscribed(SUBSCRIBERS).await;
        for number in 0..NEWS {
            topic.publish(&format!("news number {number}")).await;
        }
        println!("publisher: {NEWS} pieces of news to {} subscribers", topic.subscribers.borrow().len());
        // They drop their subscriptions, and go.
        join_all(systems).await;
        println!("publisher: {} subscribers are left", topic.subscribers.borrow().len());
    });
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

/// Side B: reads all news, then goes.
fn subscriber(name: &str) -> Result<(), Box<dyn Error>> {
    let transport = Transport::open(name, PATIENCE)?;
    let mut pool = LocalPool::new();
    let (topic, system) = rpc::client::<topic::Client>(transport);
    let disconnector = system.get_disconnector();
    pool.spawner().spawn_local(async {
        if let Err(error) = system.await {
            eprintln!("subscriber: {error}");
        }
    })?;
    pool.run_until(async {
        let (all, read) = futures::channel::oneshot::channel();
        let reader = Reader { all: RefCell::new(Some(all)), read: Cell::new(0) };
        let mut request = topic.subscribe_request();
        request.get().set_subscriber(capnp_rpc::new_client(reader));
        let subscription = request.send().promise.await?;
        let last = read.await?;
        println!("subscriber: the last of {NEWS} is {last:?}");
        drop(subscription);
        disconnector.await?;
        Ok(())
    })
}

#[derive(Default)]
struct Topic {
    subscribers: RefCell<Vec<(u64, subscriber::Client)>>,
    published: Cell<u64>,
    subscriptions: Cell<u64>,
    waiting: RefCell<Option<(usize, futures::channel::oneshot::Sender<()>)>>,
}

impl Topic {
    /// Until there are so many subscribers.
    async fn subscribed(&self, count: usize) {
        let (enough, subscribed) = futures::channel::oneshot::channel();
        *self.waiting.borrow_mut() = Some((count, enough));
        self.look();
        let _ = subscribed.await;
    }

    fn look(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some((_, enough)) = waiting.take_if(|(count, _)| self.subscribers.borrow().len() >= *count) {
            let _ = enough.send(());
        }
    }

    /// Sends a piece of news to all, as soon as their flow control lets it, and forgets those that are gone.
    async fn publish(&self, text: &str) -> usize {
        let number = self.published.replace(self.published.get() + 1);
        let pushes: Vec<_> = (self.subscribers.borrow().iter())
            .map(|(key, subscriber)| {
                let mut push = subscriber.push_request();
                push.get().set_number(number);
                push.get().set_text(text);
                let (key, sent) = (*key, push.send());
                async move { (key, sent.await) }
            })
            .collect();
        let mut reached = 0;
        for (key, sent) in join_all(pushes).await {
            match sent {
                Ok(()) => reached += 1,
                Err(_) => self.forget(key),
            }
        }
        reached
    }

    fn forget(&self, key: u64) {
        self.subscribers.borrow_mut().retain(|(other, _)| *other != key);
    }
}

impl topic::Server for Topic {
    async fn subscribe(
        self: Rc<Self>,
        params: topic::SubscribeParams,
        mut results: topic::SubscribeResults,
    ) -> Result<(), capnp::Error> {
        let key = self.subscriptions.replace(self.subscriptions.get() + 1);
        self.subscribers.borrow_mut().push((key, params.get()?.get_subscriber()?));
        let subscription = Subscription { key, topic: Rc::downgrade(&self) };
        results.get().set_subscription(capnp_rpc::new_client(subscription));
        self.look();
        Ok(())
    }

    async fn publish(
        self: Rc<Self>,
        params: topic::PublishParams,
        mut results: topic::PublishResults,
    ) -> Result<(), capnp::Error> {
        let text = params.get()?.get_text()?.to_string()?;
        results.get().set_subscribers(Topic::publish(&self, &text).await as u32);
        Ok(())
    }
}

/// Goes when the subscriber drops it, or is gone itself.
struct Subscription {
    key: u64,
    topic: Weak<Topic>,
}

impl subscription::Server for Subscription {}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(topic) = self.topic.upgrade() {
            topic.forget(self.key);
        }
    }
}

/// Reads news in order.
struct Reader {
    all: RefCell<Option<futures::channel::oneshot::Sender<String>>>,
    read: Cell<u64>,
}

impl subscriber::Server for Reader {
    async fn push(self: Rc<Self>, params: subscriber::PushParams) -> Result<(), capnp::Error> {
        let news = params.get()?;
        if news.get_number() != self.read.replace(self.read.get() + 1) {
            return Err(capnp::Error::failed("a piece of news is missing".to_owned()));
        }
        if self.read.get() == NEWS {
            if let Some(all) = self.all.take() {
                let _ = all.send(news.get_text()?.to_string()?);
            }
        }
        Ok(())
    }
}
