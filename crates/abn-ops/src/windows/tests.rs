use candle_core::{Device, Var};

use super::*;

/// Images (5, 6, 4, channels) of bytes that differ.
fn images(channels: usize) -> Tensor {
    let bytes: Vec<u8> = (0..5 * 24 * channels).map(|i| (i * 89 % 251 + 1) as u8).collect();
    Tensor::from_vec(bytes, (5, 6, 4, channels), &Device::Cpu).unwrap()
}

fn levels() -> Tensor {
    let levels: Vec<f32> = (0..3 * 256).map(|i| (i as f32).sqrt() - 7.0).collect();
    Tensor::from_vec(levels, (3, 256), &Device::Cpu).unwrap()
}

fn cut(images: &Tensor, windows: &[Window], size: (usize, usize)) -> Result<Tensor> {
    let words: Vec<u32> = windows.iter().flat_map(|window| window.words()).collect();
    let words = Tensor::from_vec(words, (windows.len(), Window::WORDS), &Device::Cpu)?;
    let shape = (windows.len(), CHANNELS, size.0, size.1);
    let output = Var::zeros(shape, DType::F32, &Device::Cpu)?.into_inner();
    cut_windows(images, &words, &levels(), &output)?;
    Ok(output)
}

#[test]
fn every_number_is_the_level_of_the_pixel_that_lies_there() {
    for channels in [1, 3] {
        let images = images(channels);
        let bytes = images.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        let levels = levels().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let corners = [(0, 0), (2, -1), (-3, 4), (-6, 0), (0, 7), (1, 1)];
        let windows = corners.iter().enumerate().map(|(i, &corner)| Window {
            image: (i * 3 % 5) as u32,
            corner,
            mirror: i % 2 == 1,
        });
        let windows: Vec<_> = windows.collect();
        let got = cut(&images, &windows, (8, 7)).unwrap().flatten_all().unwrap();
        let mut got = got.to_vec1::<f32>().unwrap().into_iter();
        for Window { image, corner, mirror } in windows {
            for channel in 0..CHANNELS {
                for y in 0..8 {
                    for x in 0..7 {
                        let x = if mirror { 6 - x } else { x };
                        let (row, column) = (y - corner.0, x - corner.1);
                        let byte = match (0..6).contains(&row) && (0..4).contains(&column) {
                            true => {
                                let pixel = (image as i32 * 6 + row) * 4 + column;
                                bytes[pixel as usize * channels + channel % channels]
                            }
                            false => 0,
                        };
                        let level = levels[channel * 256 + usize::from(byte)];
                        assert_eq!(got.next(), Some(level), "{image} at {corner:?}: {y}, {x}");
                    }
                }
            }
        }
    }
}

#[test]
fn windows_of_no_image_are_not_read() {
    let window = Window { image: 5, corner: (0, 0), mirror: false };
    match cut(&images(3), &[window], (4, 4)) {
        Ok(nan) if crate::host::is_on_gpu(&nan) => {
            let values = nan.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(values.iter().all(|value| value.is_nan()));
        }
        Ok(_) => panic!("image 5 of 5 was taken"),
        Err(error) => assert_eq!(error.to_string(), "cut_windows: image 5 of 5"),
    }
}

#[test]
fn other_shapes_and_types_are_errors() {
    let cpu = &Device::Cpu;
    let of = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, cpu).unwrap();
    let (bytes, words) = (of(&[5, 6, 4, 3], DType::U8), of(&[2, 4], DType::U32));
    let output = of(&[2, 3, 8, 8], DType::F32);
    let refuse = |images: &Tensor, windows: &Tensor, levels: &Tensor, output: &Tensor| {
        cut_windows(images, windows, levels, output).unwrap_err().to_string()
    };
    let two = of(&[5, 6, 4, 2], DType::U8);
    assert!(refuse(&two, &words, &levels(), &output).contains("1 or 3"));
    let three = of(&[3, 4], DType::U32);
    assert!(refuse(&bytes, &three, &levels(), &output).contains("2 windows"));
    assert!(refuse(&bytes, &words, &output, &output).contains("(3, 256)"));
    assert!(refuse(&bytes, &words, &levels(), &bytes).contains("(N, 3, H, W)"));
    let float = of(&[5, 6, 4, 3], DType::F32);
    assert!(refuse(&float, &words, &levels(), &output).contains("U8 is expected"));
}
