//! Cap'n Proto schemas: names of types, and decoded messages by way of the `capnp` tool.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, anyhow, bail};
use capnproto_shm_transport::capnp::message::ReaderOptions;
use capnproto_shm_transport::capnp::schema_capnp::code_generator_request;
use capnproto_shm_transport::capnp::serialize;

/// The types that a file of schemas has.
#[derive(Debug, Default)]
pub struct Schemas {
    names: HashMap<u64, String>,
    /// The CodeGeneratorRequest, as it is kept in recordings.
    request: Vec<u8>,
    /// The file that the `capnp` tool reads.
    source: Option<PathBuf>,
}

impl Schemas {
    /// Reads a `.capnp` file, which takes the `capnp` tool, or a CodeGeneratorRequest (`capnp compile -o- x.capnp`).
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let at = || format!("cannot read the schemas in {}", path.display());
        if path.extension().is_some_and(|extension| extension == "capnp") {
            fs::metadata(path).with_context(at)?;
            let output = Command::new("capnp")
                .args(["compile", "-o-"])
                .arg(path)
                .stderr(Stdio::inherit())
                .output()
                .map_err(|error| no_tool(&error, "give the output of `capnp compile -o-`"))?;
            if !output.status.success() {
                bail!("{}: the `capnp` tool refuses it", at());
            }
            return Ok(Self {
                source: Some(path.to_owned()),
                ..Self::from_request(output.stdout).with_context(at)?
            });
        }
        Self::from_request(fs::read(path).with_context(at)?).with_context(at)
    }

    /// None is given: no names.
    pub fn maybe(path: Option<&Path>) -> anyhow::Result<Self> {
        path.map_or_else(|| Ok(Self::default()), Self::open)
    }

    pub fn from_request(request: Vec<u8>) -> anyhow::Result<Self> {
        let message = serialize::read_message(&mut &*request, ReaderOptions::new())
            .context("it is not a CodeGeneratorRequest")?;
        let root = message.get_root::<code_generator_request::Reader<'_>>()?;
        let mut names = HashMap::new();
        for node in root.get_nodes()? {
            let full = node.get_display_name()?.to_str().unwrap_or_default().to_owned();
            let name = full.rsplit_once(':').map_or(&*full, |(_, name)| name);
            names.insert(node.get_id(), name.to_owned());
        }
        Ok(Self { names, request, source: None })
    }

    pub fn name(&self, type_id: u64) -> Option<&str> {
        self.names.get(&type_id).map(String::as_str)
    }

    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// A decoder of messages of a type.
    pub fn decoder(&self, type_id: u64) -> anyhow::Result<Decoder> {
        let source =
            self.source.as_deref().context("decoding takes the .capnp file itself: give that as --schema")?;
        let name = self.name(type_id).with_context(|| {
            format!("{} has no type @{type_id:#018x}; give the file that defines it", source.display())
        })?;
        Ok(Decoder { source: source.to_owned(), name: name.to_owned(), tool: None })
    }
}

/// The tool is missing, not a file that the user named.
fn no_tool(error: &io::Error, instead: &str) -> anyhow::Error {
    anyhow!("cannot run the `capnp` tool ({error}); install it (Debian: capnproto), or {instead}")
}

/// Decodes messages of a type.
#[derive(Debug)]
pub struct Decoder {
    source: PathBuf,
    name: String,
    /// Started for the first message: one that is given none complains.
    tool: Option<Tool>,
}

impl Decoder {
    /// One message as one line of text.
    pub fn decode(&mut self, frame: &[u8]) -> anyhow::Result<String> {
        let tool = match &mut self.tool {
            Some(tool) => tool,
            none => none.insert(Tool::start(&self.source, &self.name)?),
        };
        tool.decode(frame)
    }
}

/// A `capnp decode` that runs as long as this lives.
#[derive(Debug)]
struct Tool {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Tool {
    fn start(source: &Path, name: &str) -> anyhow::Result<Self> {
        let mut command = Command::new("capnp");
        // Ctrl-C is for this program, which ends the tool when it has printed what there is.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .args(["decode", "--short"])
            .arg(source)
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| no_tool(&error, "use --raw"))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("the `capnp` tool has no output")?);
        Ok(Self { child, input, output })
    }

    fn decode(&mut self, frame: &[u8]) -> anyhow::Result<String> {
        let input = self.input.as_mut().context("the `capnp` tool has ended")?;
        input
            .write_all(frame)
            .and_then(|()| input.flush())
            // As text: a broken pipe would look like one of this program's own reader.
            .map_err(|error| anyhow!("the `capnp` tool takes no more messages ({error})"))?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the `capnp` tool cannot decode this message; is the schema the right one?");
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
