"""Labels of the lungs and lesions of real chests: classical segmentation, corrected by a recipe."""
