use super::*;

#[test]
fn what_is_filled_is_what_is_taken() {
    let lane = Lane::new(&Device::Cpu).unwrap();
    let mut inlet = Inlet::<u32>::new(&lane, 6).unwrap();
    assert_eq!(inlet.capacity(), 6);
    for numbers in [vec![1, 2, 3, 4, 5, 6], vec![7, 8], vec![]] {
        inlet.fill(&numbers).unwrap();
        let taken = inlet.take((numbers.len() / 2, 2)).unwrap();
        assert_eq!(taken.flatten_all().unwrap().to_vec1::<u32>().unwrap(), numbers);
        assert!(taken.is_contiguous());
        inlet.release().unwrap();
    }
    let refused = inlet.fill(&[0; 7]).unwrap_err().to_string();
    assert_eq!(refused, "inlet: expected at most 6 numbers, got [7]");
    inlet.fill(&[1, 2, 3]).unwrap();
    assert!(inlet.take(4).is_err());
}
