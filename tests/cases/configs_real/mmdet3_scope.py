_base_ = "mmdet::yolox/yolox_nano_8xb8-300e_coco.py"
