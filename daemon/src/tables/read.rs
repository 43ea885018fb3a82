//! The rows of a table, as Arrow IPC streams that each are whole in themselves.

use std::{sync::mpsc, thread};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use rhd_protocol::{
    call::{Codec, Reply},
    table::{MAX_BATCH, Read},
};

use super::{
    error::TableError,
    file::caught,
    fit::Fit,
    layout::Root,
    pack::{self, Packer},
    plan::Plan,
    shuffle::{Dice, Pool},
};
use crate::{asked::Out, framed::Frame};

/// Rows that are decoded at once, at most, and how many bytes that shall be.
const GRAIN: usize = 4096;
const GRAIN_BYTES: u64 = 1 << 20;
/// Items that wait to be sent, at most.
const AHEAD: u32 = 64;

/// Sends the rows of a table; how many they were.
pub(super) fn read(root: Root, read: &Read, out: &Out) -> Result<u64, TableError> {
    if read.batch > MAX_BATCH {
        return Err(TableError::Request(format!("a batch has at most {MAX_BATCH} rows")));
    }
    let plan = Plan::open(root, &read.only)?;
    let schema = plan.projected(read.columns.as_deref())?;
    let mut packer = Packer::new(read.batch);
    let ahead = read.ahead.clamp(1, AHEAD) as usize;
    // Decoding is most of the work; what was decoded is encoded and sent meanwhile.
    let (ready, items) = mpsc::sync_channel::<RecordBatch>(ahead);
    thread::scope(|scope| {
        let decode = || {
            let mut give = |batch| ready.send(batch).map_err(|_| TableError::Gone);
            let rows = rows(&plan, &schema, read, &mut |batch| packer.push(batch, &mut give))?;
            if let Some(rest) = packer.finish()? {
                give(rest)?;
            }
            drop(ready);
            Ok(rows)
        };
        let decoding = thread::Builder::new().name("rhd-table".into()).spawn_scoped(scope, decode);
        let decoding =
            decoding.map_err(TableError::file("start a thread for", &plan.layout.root))?;
        let sent = send_all(&schema, items, out);
        let decoded = decoding.join();
        let decoded = decoded.unwrap_or_else(|_| Err(TableError::Defect("a thread ended".into())));
        match (decoded, sent) {
            // It ends because nothing is sent any more.
            (Err(TableError::Gone), Err(why)) => Err(why),
            (Err(why), _) | (Ok(_), Err(why)) => Err(why),
            (Ok(rows), Ok(())) => Ok(rows),
        }
    })
}

fn send_all(
    schema: &SchemaRef,
    items: mpsc::Receiver<RecordBatch>,
    out: &Out,
) -> Result<(), TableError> {
    let mut send = |stream: Vec<u8>| {
        let parts = vec![stream.len() as u64];
        let reply = Reply::Item { id: None, codec: Codec::Msgpack, parts };
        let frame = Frame::new(&reply, Bytes::from(stream));
        let frame = frame.map_err(|e| TableError::Defect(e.to_string()))?;
        out.blocking_send(frame).map_err(|_| TableError::Gone)
    };
    let mut none = true;
    for batch in items {
        none = false;
        pack::encode(schema, Some(&batch), &mut send)?;
    }
    if none { pack::encode(schema, None, &mut send) } else { Ok(()) }
}

/// A part and the row groups of it that are read in one go; none: all.
type Unit = (usize, Option<usize>);

/// Gives all rows that are asked for to `each`, in order; how many they were.
pub(super) fn rows(
    plan: &Plan,
    schema: &SchemaRef,
    read: &Read,
    each: &mut dyn FnMut(RecordBatch) -> Result<(), TableError>,
) -> Result<u64, TableError> {
    let mut units: Vec<Unit> = (0..plan.files.len()).map(|part| (part, None)).collect();
    let mut pool = None;
    if let Some(shuffle) = &read.shuffle {
        let mut dice = Dice::new(shuffle.seed);
        let groups = |(part, _)| {
            let file: &super::plan::Known = &plan.files[part];
            (0..file.row_groups).map(move |group| (part, Some(group)))
        };
        units = units.into_iter().flat_map(groups).collect();
        dice.shuffle(&mut units);
        pool = (shuffle.buffer > 0).then(|| Pool::new(dice, shuffle.buffer as usize));
    }
    let mut left = read.limit.unwrap_or(u64::MAX);
    let mut given = 0_u64;
    let mut give = |batch: RecordBatch| {
        let rows = (batch.num_rows() as u64).min(left);
        left -= rows;
        given += rows;
        if rows > 0 {
            each(batch.slice(0, rows as usize))?;
        }
        Ok(left > 0)
    };
    let mut more = left_some(read.limit);
    for unit in units {
        if !more {
            break;
        }
        more = part(plan, unit, schema, &mut |batch| match &mut pool {
            Some(pool) => pool.push(batch)?.map_or(Ok(true), &mut give),
            None => give(batch),
        })?;
    }
    if let (Some(mut pool), true) = (pool, more) {
        while let Some(batch) = pool.rest(GRAIN)? {
            if !give(batch)? {
                break;
            }
        }
    }
    Ok(given)
}

fn left_some(limit: Option<u64>) -> bool {
    limit != Some(0)
}

/// Reads a file, or one row group of it, as long as `each` wants more; whether it does.
fn part(
    plan: &Plan,
    (index, group): Unit,
    schema: &SchemaRef,
    each: &mut dyn FnMut(RecordBatch) -> Result<bool, TableError>,
) -> Result<bool, TableError> {
    let (part, full, file, footer) = plan.part(index)?;
    let broken = TableError::broken(&full);
    let known = &plan.files[index];
    if footer.metadata().file_metadata().num_rows() as u64 != known.rows {
        return Err(broken(&"it was written to while it was read"));
    }
    let fit = Fit::new(schema, footer.schema(), &part.keys, &plan.layout.keys);
    let row = known.plain / known.rows.max(1);
    let grain = (GRAIN_BYTES / row.max(1)).clamp(16, GRAIN as u64) as usize;
    let mut reader: ParquetRecordBatchReader = caught(&full, || {
        let footer = fit.hinted(footer).map_err(|e| broken(&e))?;
        let mask = fit.mask(&footer);
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer)
            .with_batch_size(grain)
            .with_projection(mask);
        if let Some(group) = group {
            builder = builder.with_row_groups(vec![group]);
        }
        builder.build().map_err(|e| broken(&e))
    })?;
    loop {
        let next = caught(&full, || match reader.next() {
            Some(batch) => {
                let batch = batch.map_err(|e| broken(&e))?;
                fit.batch(&batch).map(Some).map_err(|why| broken(&why))
            }
            None => Ok(None),
        })?;
        let Some(batch) = next else { return Ok(true) };
        if !each(batch)? {
            return Ok(false);
        }
    }
}
