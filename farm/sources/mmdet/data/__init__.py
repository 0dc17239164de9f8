"""What an mmdet config says of data: test pipeline, data sets and the order of labels."""
