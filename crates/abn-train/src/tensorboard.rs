//! TensorBoard's event files: scalars in protobuf messages in TFRecord frames.
//!
//! A frame is the length of its data (u64), the masked CRC-32C of these eight bytes (u32), the
//! data, and the data's masked CRC-32C (u32), all little-endian (TensorFlow's `record_writer.cc`).
//! The data are an `Event` (`tensorflow/core/util/event.proto`), of which only these fields are
//! used: `wall_time` 1, `step` 2, `file_version` 3, `summary` 5; in a `Summary`, `value` 1; in a
//! value, `tag` 1 and `simple_value` 2.

use crate::Metrics;

/// An event file with what each epoch measured, by epoch.
///
/// `start` is when the run began, in seconds since 1970; an epoch's time is that and the time
/// all epochs took so far.
pub(crate) fn events(lines: &[Metrics], start: f64) -> Vec<u8> {
    let mut file = Vec::new();
    let mut version = Message::default();
    version.double(1, start).bytes(3, b"brain.Event:2");
    frame(&mut file, &version.0);
    let mut time = start;
    for line in lines {
        time += line.seconds;
        let mut summary = Message::default();
        for (tag, value) in scalars(line) {
            let mut scalar = Message::default();
            scalar.bytes(1, tag.as_bytes()).float(2, value as f32);
            summary.bytes(1, &scalar.0);
        }
        let mut event = Message::default();
        event.double(1, time).integer(2, line.epoch as u64).bytes(5, &summary.0);
        frame(&mut file, &event.0);
    }
    file
}

/// What TensorBoard shows of an epoch: losses share a group, errors another.
fn scalars(line: &Metrics) -> impl Iterator<Item = (&'static str, f64)> {
    [
        ("loss/train", Some(line.train_loss)),
        ("loss/train_perception", Some(line.train_loss_perception)),
        ("loss/train_attention", line.train_loss_attention),
        ("loss/test", Some(line.test_loss)),
        ("error/train", Some(line.train_error)),
        ("error/test", Some(line.test_error)),
        ("error/test_attention", line.test_error_attention),
        ("lr", Some(line.lr)),
        ("images_per_second", Some(line.images_per_second)),
    ]
    .into_iter()
    .filter_map(|(tag, value)| Some((tag, value?)))
}

/// A protobuf message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn integer(&mut self, field: u64, value: u64) -> &mut Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    fn double(&mut self, field: u64, value: f64) -> &mut Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }
}

fn frame(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked_crc(&length).to_le_bytes());
    file.extend(data);
    file.extend(masked_crc(data).to_le_bytes());
}

/// TFRecord's checksum: one of data that hold checksums themselves should not be of a pattern.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut rest, mut bit) = (byte as u32, 0);
            while bit < 8 {
                rest = if rest & 1 == 1 { rest >> 1 ^ 0x82f6_3b78 } else { rest >> 1 };
                bit += 1;
            }
            table[byte] = rest;
            byte += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc, &byte| TABLE[(crc as u8 ^ byte) as usize] ^ crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::example;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4, and the check value of the CRC catalogue.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
        // What TensorFlow writes for the length of its first record, 24 bytes.
        assert_eq!(masked_crc(&24u64.to_le_bytes()), 0x224b_7fa3);
    }

    /// The data of each frame, both checksums checked.
    fn frames(mut file: &[u8]) -> Vec<&[u8]> {
        let mut frames = Vec::new();
        while !file.is_empty() {
            let (head, rest) = file.split_at(12);
            let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
            assert_eq!(masked_crc(&head[..8]).to_le_bytes(), head[8..]);
            let (data, rest) = rest.split_at(length);
            let (crc, rest) = rest.split_at(4);
            assert_eq!(masked_crc(data).to_le_bytes(), crc);
            frames.push(data);
            file = rest;
        }
        frames
    }

    /// A message's fields: number, and content without its length.
    fn fields(mut data: &[u8]) -> Vec<(u64, &[u8])> {
        fn varint(data: &mut &[u8]) -> u64 {
            let end = data.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let (bytes, rest) = data.split_at(end);
            *data = rest;
            bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
        }
        let mut fields = Vec::new();
        while !data.is_empty() {
            let key = varint(&mut data);
            let length = match key & 7 {
                0 => data.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1,
                1 => 8,
                2 => varint(&mut data) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            let (content, rest) = data.split_at(length);
            fields.push((key >> 3, content));
            data = rest;
        }
        fields
    }

    #[test]
    fn every_epoch_reads_back_frame_by_frame() {
        let lines = [example(1, 12.5), example(300, 10.25)];
        let file = events(&lines, 1000.0);
        let frames = frames(&file);
        assert_eq!(frames.len(), 3);
        let first = fields(frames[0]);
        assert_eq!(first, [(1, &1000f64.to_le_bytes()[..]), (3, b"brain.Event:2")]);
        let time = |seconds: f64| (1, seconds.to_le_bytes().to_vec());
        let owned = |(field, content): (u64, &[u8])| (field, content.to_vec());
        assert_eq!(owned(fields(frames[1])[0]), time(1002.0));
        let event = fields(frames[2]);
        assert_eq!(owned(event[0]), time(1004.0));
        assert_eq!(event[1], (2, &[0xac, 0x02][..]), "300 in two bytes");
        let (field, summary) = event[2];
        assert_eq!((field, event.len()), (5, 3));
        let values: Vec<_> = fields(summary)
            .into_iter()
            .map(|(field, value)| {
                let value = fields(value);
                assert_eq!((field, value[0].0, value[1].0), (1, 1, 2));
                let number = f32::from_le_bytes(value[1].1.try_into().unwrap());
                (std::str::from_utf8(value[0].1).unwrap(), f64::from(number))
            })
            .collect();
        let expected: Vec<_> =
            scalars(&lines[1]).map(|(tag, value)| (tag, f64::from(value as f32))).collect();
        assert_eq!(values, expected);
        assert!(values.contains(&("error/test", 10.25)));
        assert!(values.iter().all(|(tag, _)| *tag != "error/test_attention"), "there is none");
    }
}
