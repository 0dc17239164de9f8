"""What results keep beside the leaderboard: matrices of sweeps, earlier figures, files of cells."""
