import numpy as np

from stml_tf.monitoring.contact_sheet import matrix_sheet, neighbor_sheet

GREEN, RED = (26, 127, 55), (207, 34, 46)


def test_neighbours_stand_beside_their_query_in_frames_that_say_whether_they_are_right():
    blue, black = (np.full((20, 30, 3), color, np.uint8) for color in ((0, 0, 255), (0, 0, 0)))
    sheet = neighbor_sheet([(blue, [(black, True), (black, False)]), (black, [(blue, None)])])
    assert sheet.dtype == np.uint8 and sheet.shape == (2 * 102 + 6, 3 * 102 + 12, 3)
    cells = [[tuple(sheet[6 + row * 102 + 48, left + 48]) for left in (6, 114, 216)] for row in range(2)]
    assert cells == [[(0, 0, 255), (0, 0, 0), (0, 0, 0)], [(0, 0, 0), (0, 0, 255), (255, 255, 255)]]
    assert tuple(sheet[6, 114]) == GREEN and tuple(sheet[6, 216]) == RED
    # Whoever sees no colours sees that the frame is thicker.
    assert tuple(sheet[6 + 5, 216 + 48]) == RED and tuple(sheet[6 + 5, 114 + 48]) != GREEN


def test_matrices_stand_side_by_side_as_shades_of_grey():
    sheet = matrix_sheet({"pairwise": np.array([[1.0, 0.5], [0.0, 2.0]]), "truth": np.eye(2)})
    assert sheet.shape == (240 + 18 + 12, 2 * 246 + 6, 3)
    first = sheet[24:264, 6:246]
    assert [tuple(first[y, x]) for y in (10, 200) for x in (10, 200)] == [(255,) * 3, (128,) * 3, (0,) * 3, (255,) * 3]
    assert sheet[24 + 200, 252 + 10].tolist() == [0, 0, 0]


def test_large_matrices_keep_a_pixel_for_each_pair():
    assert matrix_sheet({"pairwise": np.zeros((300, 300))}).shape[1] == 300 + 12
