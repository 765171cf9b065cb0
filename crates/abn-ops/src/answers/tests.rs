use candle_core::{D, DType, Device, Tensor};

use super::*;
use crate::testing::{flat, random};
use crate::{count_multiply_adds, zeros_without_memory};

/// What candle's own operations give.
fn reference(scores: &[Tensor]) -> Vec<Vec<u32>> {
    let one = |scores: &Tensor| match scores.dims()[1] {
        1 => scores.gt(0.0).unwrap().to_dtype(DType::U32).unwrap(),
        _ => scores.argmax_keepdim(D::Minus1).unwrap(),
    };
    let answers: Vec<_> = scores.iter().map(one).collect();
    Tensor::cat(&answers, 1).unwrap().to_vec2().unwrap()
}

#[test]
fn answers_are_the_first_of_the_highest() {
    let few = vec![1, 4, 2, 100, 1];
    // More than a GPU's kernel takes at once.
    let many = (0..200).map(|t| 1 + t % 5).collect();
    for (n, widths) in [(1, &few), (37, &few), (300, &few), (3, &many)] {
        // Whole numbers, so that some are equal, and some single ones 0.
        let scores = |(&k, seed)| (random(seed, &[n, k]) * 4.0).unwrap().round().unwrap();
        let scores: Vec<Tensor> = widths.iter().zip(1..).map(scores).collect();
        for dtype in [DType::F64, DType::F32] {
            let there: Vec<_> = scores.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
            let answers = task_answers(&there.iter().collect::<Vec<_>>()).unwrap();
            assert_eq!(answers.to_vec2::<u32>().unwrap(), reference(&scores), "{dtype:?}");
        }
    }
}

#[test]
fn scores_need_not_be_contiguous_and_no_number_is_never_higher() {
    let scores =
        Tensor::new(&[[f32::NAN, 1.0], [1.0, f32::NAN], [0.5, 2.0]], &Device::Cpu).unwrap();
    let column = scores.narrow(1, 0, 1).unwrap();
    let answers = task_answers(&[&scores, &column]).unwrap();
    let answers = answers.to_dtype(DType::F64).unwrap();
    assert_eq!(flat(&answers), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
}

#[test]
fn other_shapes_are_errors_and_shapes_alone_take_no_memory() {
    let [a, b] = [[3, 2], [4, 2]].map(|shape| random(1, &shape));
    assert!(matches!(task_answers(&[&a, &b]), Err(Error::Shape { op: OP, .. })));
    assert!(matches!(task_answers(&[]), Err(Error::Config { op: OP, .. })));
    let scalar = Tensor::new(1f32, &Device::Cpu).unwrap();
    assert!(matches!(task_answers(&[&scalar]), Err(Error::Config { op: OP, .. })));
    let huge = zeros_without_memory((1 << 30, 1 << 20), DType::F32).unwrap();
    let (answers, _) = count_multiply_adds(|| task_answers(&[&huge, &huge]).unwrap());
    assert_eq!(answers.dims(), [1 << 30, 2]);
}
