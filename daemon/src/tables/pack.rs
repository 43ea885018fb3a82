//! Batches of any size, cut and joined to such as travel well.

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Schema};
use arrow_select::concat::concat_batches;
use rhd_protocol::frame::MAX_BODY;

use super::error::TableError;

/// Bytes of an item, about.
const ITEM: usize = 1 << 20;
/// Bytes up to which an item holds whole batches of its reader.
const WHOLE: usize = 16 << 20;

/// Cuts and joins.
#[derive(Debug)]
pub(super) struct Packer {
    /// Rows of the reader's batches; 1 where it takes any.
    batch: usize,
    waiting: Vec<RecordBatch>,
    rows: usize,
    /// Bytes of a row, by the last batch.
    row: usize,
}

impl Packer {
    pub(super) fn new(batch: u32) -> Self {
        Self { batch: batch.max(1) as usize, waiting: Vec::new(), rows: 0, row: 1 }
    }

    /// Rows that an item shall have.
    fn wanted(&self) -> usize {
        let fitting = (ITEM / self.row).max(1);
        match self.batch.saturating_mul(self.row) <= WHOLE {
            true => (fitting / self.batch).max(1) * self.batch,
            false => fitting,
        }
    }

    /// Takes rows in; `each` gets what is ready.
    pub(super) fn push(
        &mut self,
        batch: RecordBatch,
        each: &mut dyn FnMut(RecordBatch) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.row = (bytes(&batch) / batch.num_rows()).max(1);
        self.rows += batch.num_rows();
        self.waiting.push(batch);
        let wanted = self.wanted();
        if self.rows < wanted {
            return Ok(());
        }
        let whole = self.join()?;
        let mut at = 0;
        while whole.num_rows() - at >= wanted {
            each(whole.slice(at, wanted))?;
            at += wanted;
        }
        if at < whole.num_rows() {
            let rest = whole.slice(at, whole.num_rows() - at);
            self.rows = rest.num_rows();
            self.waiting.push(rest);
        }
        Ok(())
    }

    /// What is left, if anything is.
    pub(super) fn finish(&mut self) -> Result<Option<RecordBatch>, TableError> {
        if self.rows == 0 { Ok(None) } else { self.join().map(Some) }
    }

    fn join(&mut self) -> Result<RecordBatch, TableError> {
        self.rows = 0;
        let waiting = std::mem::take(&mut self.waiting);
        match waiting.as_slice() {
            [one] => Ok(one.clone()),
            [first, ..] => concat_batches(first.schema_ref(), &waiting)
                .map_err(|e| TableError::TooMuch(format!("rows can't be joined: {e}"))),
            [] => Err(TableError::Defect("there is nothing to join".into())),
        }
    }
}

/// Bytes that the rows of a batch take, whatever it is a part of.
pub(super) fn bytes(batch: &RecordBatch) -> usize {
    let column = |column: &arrow_array::ArrayRef| {
        let data = column.to_data();
        data.get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    batch.columns().iter().map(column).sum()
}

/// An Arrow IPC stream of one batch, or of none; several where one would be too long for an item.
pub(super) fn encode(
    schema: &Schema,
    batch: Option<&RecordBatch>,
    each: &mut dyn FnMut(Vec<u8>) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let rows = batch.map_or(0, RecordBatch::num_rows);
    let room = batch.map_or(0, bytes);
    let stream = if room > MAX_BODY { None } else { Some(stream(schema, batch, room)) };
    match stream {
        Some(Ok(stream)) if stream.len() <= MAX_BODY => each(stream),
        Some(Err(error)) => Err(TableError::Defect(format!("rows can't be encoded: {error}"))),
        _ if rows > 1 => {
            let batch = batch.ok_or(TableError::Gone)?;
            encode(schema, Some(&batch.slice(0, rows / 2)), each)?;
            encode(schema, Some(&batch.slice(rows / 2, rows - rows / 2)), each)
        }
        _ => Err(TableError::TooMuch(format!("one row has {room} bytes"))),
    }
}

fn stream(
    schema: &Schema,
    batch: Option<&RecordBatch>,
    room: usize,
) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::with_capacity(room + 4096), schema)?;
    if let Some(batch) = batch {
        writer.write(batch)?;
    }
    writer.finish()?;
    writer.into_inner()
}
