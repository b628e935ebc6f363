"""What the paper prints of its results (Tables 3, 4 and 5, sections 2.5 and 3), and the counts behind it."""

TABLE_3 = {
    "unet": ((445, 0, 16, 623), ("0.985", "1.000", "0.975", "0.989")),
    "resnet34": ((444, 1, 7, 632), ("0.993", "0.998", "0.989", "0.994")),
    "resnet34_ds": ((443, 2, 5, 634), ("0.994", "0.996", "0.992", "0.993")),
    "resnet34_linear": ((445, 0, 4, 635), ("0.996", "1.000", "0.994", "0.997")),
}
"""(tp, fn, fp, tn), and accuracy, sensitivity, specificity and F_1.5 as printed."""
FALSE_VERDICTS = {
    "Table 4, unet": ((33, 133), ("0.915", "0.971", "0.842", "0.945")),
    "Table 4, resnet34": ((51, 33), ("0.957", "0.954", "0.961", "0.959")),
    "Table 4, resnet34, or": ((52, 33), ("0.957", "0.954", "0.961", "0.959")),
    "Table 4, resnet34_ds": ((44, 30), ("0.962", "0.961", "0.964", "0.964")),
    "Table 4, resnet34_linear": ((59, 25), ("0.957", "0.947", "0.970", "0.956")),
    "Table 5, psi_0": ((46, 33), ("0.9597", "0.959", "0.961", "0.962")),
    "Table 5, psi_1 and psi_2": ((44, 31), ("0.9617", "0.961", "0.963", "0.964")),
    "Table 5, psi_3 and psi_4": ((44, 30), ("0.9622", "0.961", "0.964", "0.964")),
}
"""(fn, fp) on the Test part, and the figures as printed; two counts of resnet34 give the same ones."""
TEST_SECTIONS = (1119, 843)
"""Numbers of Tumor and Normal sections in Test."""
CHOSEN_AREAS_UM2 = {
    "unet": (8960, 35),
    "resnet34": (3840, 15),
    "resnet34_ds": (5120, 20),
    "resnet34_linear": (2560, 10),
}
"""t_A of Table 3, and how many cells of 16 x 16 px that is at 1 um per pixel."""
CHOSEN_T_P = {"unet": 0.45, "resnet34": 0.60, "resnet34_ds": 0.60, "resnet34_linear": 0.65}
MERGE_WEIGHTS = (0.1590, -0.1645, 0.1603, -0.2963, 0.0036)
"""The weights of psi_0 to psi_4 that the paper's linear merge learned (section 3.1)."""
