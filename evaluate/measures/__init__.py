"""What is measured of a map: faithfulness, sanity, leakage, lesions, time."""
