//! An object storage daemon on Stellate: small, whole, and written to be read.
//!
//! ```text
//!            ┌─────────┐  GetMap (answered when there is a newer one)   ┌─────────┐
//!            │  mon.0  │ ◄───────────────────────────────────────────── │ client  │
//!            └────┬────┘                                                └────┬────┘
//!      Boot, GetMap                                         Put, Get         │ lossless_client
//!                 │                                                          ▼
//!            ┌────┴────┐  Replicate   ┌─────────┐            primary of the object: stores,
//!            │  osd.0  │ ───────────► │  osd.1  │            then replicates, then answers
//!            └─────────┘ lossless_peer└─────────┘
//! ```
//!
//! | File | What a storage engineer finds there |
//! | --- | --- |
//! | [`map`], [`placement`] | which OSDs there are, and which of them hold an object, primary first |
//! | [`messages`] | all that goes over the wire |
//! | [`store`], [`database`], [`memory`] | objects on disk, one transaction for all writes that wait, writes applied once; in memory for simulations |
//! | [`osd`], [`write`] | the actor: admission by map epoch, writes that are answered when all replicas have stored |
//! | [`peers`], [`lane`] | the sessions with the other OSDs, and numbered streams over them |
//! | [`mon`] | a monitor of one: hands out maps |
//! | [`client`] | retries until a write is stored, safely, since every write has an id |
//! | [`daemon`], [`admin`] | puts the actors into one messenger, with commands to look at them and break them |
//! | [`check`], [`sabotage`] | the demonstration's own: counts what arrives, and a layer that can be told to lie |
//! | [`ledger`] | a checker for every run: what was acknowledged is read, and is on every replica |
//! | [`trial`], [`report`] | the demonstration: store, break, read back, compare |
#![allow(dead_code)] // Shared by the example, the command line and the tests: each uses a part.

pub(crate) mod admin;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod database;
pub(crate) mod lane;
pub(crate) mod ledger;
pub(crate) mod map;
pub(crate) mod memory;
pub(crate) mod messages;
pub(crate) mod mon;
#[allow(clippy::module_inception)] // The actor is what the module is named for.
pub(crate) mod osd;
pub(crate) mod peers;
pub(crate) mod placement;
pub(crate) mod report;
pub(crate) mod sabotage;
pub(crate) mod store;
pub(crate) mod trial;
pub(crate) mod write;
