#!/bin/sh
# Interpreters with the tools that `make bench` compares with: sh benchmarks/peers.sh FOLDER
# Then: make bench BENCH='--peers TIAToolbox=FOLDER/tiatoolbox/bin/python MONAI=FOLDER/tiatoolbox/bin/python
#       LazySlide=FOLDER/lazyslide/bin/python'
# torchvision is installed without its dependencies, and its compiled operations are not used: with a torch for CPUs it
# needs no CUDA (benchmarks/heatmap_ways.py declares their names). So TIAToolbox's own bounds on versions are not kept.
set -eu
folder=${1:?"folder for the interpreters"}
torch=torch==2.13.0

peer() {
    python3.11 -m venv "$folder/$1"
    "$folder/$1/bin/pip" install --quiet "$torch"
    "$folder/$1/bin/pip" install --quiet --no-deps torchvision==0.28.0 timm
}

peer tiatoolbox
"$folder/tiatoolbox/bin/pip" install --quiet --no-deps tiatoolbox==2.1.3
"$folder/tiatoolbox/bin/pip" install --quiet monai==1.6.1 SimpleITK 'dask<2026.7.1' defusedxml glymur huggingface_hub \
    'imagecodecs<2026.3.6' 'numba<0.66' 'numpy<2.4.4' 'opencv-python-headless<5' 'openslide-bin<4.0.1.2' \
    'openslide-python<1.4.6' 'pandas<3.0.3' pydicom pyyaml requests safetensors 'scikit-image<0.26.1' scikit-learn \
    shapely 'tifffile<2026.3.3' tqdm transformers umap-learn wsidicom 'zarr<3.2.0' aiohttp bokeh flask flask-cors s3fs \
    ipywidgets

peer lazyslide
"$folder/lazyslide/bin/pip" install --quiet --no-deps lazyslide==0.13.0 lazyslide-models==0.1.0
"$folder/lazyslide/bin/pip" install --quiet wsidata==0.12.0 huggingface_hub legendkit matplotlib matplotlib-scalebar \
    numba 'opencv-python-headless<5' psutil rich safetensors scikit-image scikit-learn scipy seaborn
