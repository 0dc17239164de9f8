"""The three single-model tools, for people who know MMDetection's own: export, build and test.

They run the same steps as a sweep and share its store; their options are those of MMDetection
2.28's pytorch2onnx.py, onnx2tensorrt.py and test.py.
"""
