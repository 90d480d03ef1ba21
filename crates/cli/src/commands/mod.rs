//! One command a file: the library call first, then the printer.

pub mod bench;
pub mod doctor;
pub mod dump;
pub mod generated;
pub mod info;
pub mod ls;
pub mod record;
pub mod replay;
pub mod rm;
pub mod stat;
pub mod top;
