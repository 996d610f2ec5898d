"""World model: a VAE of game frames and an LSTM of its latents, which dream a game (Ha & Schmidhuber 2018).

__main__.py   the program: records games, trains, measures errors of predictions, films dreams
recording.py  games as frames, actions, rewards and ends
model.py      WorldModel: the VAE, the LSTM with a mixture density output, losses
dream.py      predictions many steps ahead: their errors, films beside the game
"""
